"""Typed specs: every planned stage fits its record, whole and without loss."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from distillbench.errors import BadInput
from distillbench.experiment.load import load_experiment, profiles_of
from distillbench.plan.build import build_plan
from distillbench.plan.stage import Stage
from distillbench.specs.context import Runtime
from distillbench.specs.stages import (
    IDENTITY_VERSION,
    SampleSpec,
    ScoreSpec,
    TrainSpec,
    record_of,
)
from distillbench.testing.specs import sample_spec, score_spec, train_spec

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted((ROOT / "experiments").glob("*.yaml"))
CASES = [(file, profile) for file in FILES for profile in profiles_of(file) or [None]]
WHOLE = {"train": train_spec("lcm", {}), "sample": sample_spec("k"), "score": score_spec("k")}


def text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


@pytest.mark.parametrize(
    ("file", "profile"), CASES, ids=[f"{f.stem}-{p or 'plain'}" for f, p in CASES]
)
def test_a_planned_spec_is_read_whole(file: Path, profile: str | None) -> None:
    for stage in build_plan(load_experiment(file, profile=profile)).stages.values():
        again = record_of(stage.kind, stage.spec).read(json.loads(text(stage.spec)), of=stage.key)
        assert text(again.plain()) == text(stage.spec)
        assert text(stage.options.plain()) == text(stage.runtime)


def places(value: Any, *path: str) -> list[tuple[str, ...]]:
    """Paths of all mappings inside, those of plug-ins' own parameters left out."""
    if not isinstance(value, dict) or path[-1:] == ("params",):
        return []
    return [path, *(found for name, part in value.items() for found in places(part, *path, name))]


def at(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        value = value[name]
    return value


UNKNOWN = [(kind, path) for kind, spec in WHOLE.items() for path in places(spec)]
MISSING = [
    (kind, (*path, name))
    for kind, path in UNKNOWN
    for name in at(WHOLE[kind], path)
    if name != "kind" and (kind, name) != ("train", "teacher")
]


def refusal(kind: Any, spec: dict[str, Any]) -> str:
    with pytest.raises(BadInput) as caught:
        _ = Stage(kind, "0f3a", spec).record
    assert "\n" not in caught.value.line
    assert caught.value.line.startswith(f"{kind} stage 0f3a: ")
    assert "command again" in caught.value.line
    return caught.value.line


@pytest.mark.parametrize(("kind", "path"), UNKNOWN)
def test_a_field_that_nothing_reads_is_refused(kind: str, path: tuple[str, ...]) -> None:
    spec = json.loads(text(WHOLE[kind]))
    at(spec, path)["surplus"] = 1
    assert "surplus" in refusal(kind, spec)


@pytest.mark.parametrize(("kind", "path"), MISSING)
def test_a_field_that_is_missing_is_named(kind: str, path: tuple[str, ...]) -> None:
    spec = json.loads(text(WHOLE[kind]))
    del at(spec, path[:-1])[path[-1]]
    assert path[-1] in refusal(kind, spec)


def test_nothing_is_converted() -> None:
    for kind, path, value in (
        ("train", ("seed",), "3"),
        ("train", ("train", "updates"), 2.5),
        ("train", ("train", "precision"), "half"),
        ("sample", ("batch_size",), "8"),
        ("sample", ("prompts", "n"), 0),
        ("sample", ("sampler", "kind"), "heun"),
        ("sample", ("sampler", "timesteps"), [1, 2]),
        ("score", ("metric", "version"), True),
    ):
        spec = json.loads(text(WHOLE[kind]))
        at(spec, path[:-1])[path[-1]] = value
        assert path[0] in refusal(kind, spec)


def test_all_that_is_wrong_is_told_in_one_line() -> None:
    spec = {**train_spec("lcm", {}), "seed": -1, "surplus": 1}
    del spec["method"]
    line = refusal("train", spec)
    assert all(name in line for name in ("seed", "surplus", "method"))


def test_a_spec_of_an_older_form_is_refused_by_what_changed() -> None:
    spec = train_spec("lcm", {})
    spec["train"]["steps"] = spec["train"].pop("updates")
    assert "train.steps: is called 'updates' now" in refusal("train", spec)
    older = {**train_spec("lcm", {}), "identity": IDENTITY_VERSION - 1}
    assert f"keys are of version {IDENTITY_VERSION - 1}" in refusal("train", older)
    with pytest.raises(BadInput, match=r"train stage 0f3a: folder: unknown key"):
        _ = Stage("train", "0f3a", spec, runtime={"threads": 1, "folder": "/x"}).options


def test_what_is_not_trained_has_a_precision_alone() -> None:
    spec = {**train_spec("teacher", {}), "train": {"precision": "bfloat16"}, "data": {}}
    read = TrainSpec.read(spec, of="it")
    assert not read.trains
    assert (read.train.updates, read.train.last, read.train.precision) == (0, 0, "bfloat16")
    assert read.plain() == spec


def test_a_snapshot_ends_where_it_says() -> None:
    spec = train_spec("lcm", {}, updates=8, stop=3)
    assert TrainSpec.read(spec, of="it").train.last == 3
    assert TrainSpec.read(train_spec("lcm", {}, updates=8), of="it").train.last == 8


def test_a_plug_in_comes_with_what_is_in_no_key() -> None:
    read = ScoreSpec.read(score_spec(), of="it")
    runtime = Runtime(settings={"metric": {"weights": "./w"}})
    assert read.plugin("metric", runtime) == ("coverage", {"weights": "./w"})
    assert read.plugin("metric", Runtime()) == ("coverage", {})


def test_a_stage_of_another_kind_is_a_mistake_of_ours() -> None:
    stage = Stage("sample", "k", sample_spec())
    assert stage.read(SampleSpec).prompts.n == 8
    with pytest.raises(TypeError, match="a sample stage has no ScoreSpec"):
        stage.read(ScoreSpec)
