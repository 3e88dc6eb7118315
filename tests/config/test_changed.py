"""Finished stages that other code made: which rows, and how it differs."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distillbench.experiment.schema import Experiment
from distillbench.files.io import sha256
from distillbench.plan.build import build_plan
from distillbench.plan.changed import Cause, Changes, causes_of, find_changes
from distillbench.plan.provenance import made_by
from distillbench.plan.stage import Plan, Stage

RAW = {
    "name": "demo",
    "base": {"backbone": "gmm", "train": {"updates": 4}, "sample": {"n": 10}},
    "rows": [
        {"label": "DDIM", "method": "teacher", "nfe": 4},
        {"label": "LCM", "method": "lcm", "nfe": [4, 2]},
        {"label": "TDM", "method": "tdm", "nfe": 4},
    ],
    "metrics": ["sw", "coverage"],
    "reference": {"method": "teacher", "nfe": 25},
}


class Folder:
    """A store's folders."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, kind: str, key: str) -> Path:
        return self.root / kind / key

    def write(self, stage: Stage, *attempts: Mapping[str, Any]) -> None:
        folder = self.path(stage.kind, stage.key)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "provenance.json").write_text(json.dumps({"attempts": attempts}))


@pytest.fixture
def made() -> Plan:
    """A plan of three rows."""
    return build_plan(Experiment.model_validate(RAW))


@pytest.fixture
def store(tmp_path: Path, made: Plan) -> Folder:
    """All of it done, by the code that is here."""
    folder = Folder(tmp_path)
    for stage in made.stages.values():
        folder.write(stage, made_by(stage.record))
    return folder


def changes(made: Plan, store: Folder) -> Changes:
    return find_changes(made, list(made.stages), store)


def altered(stage: Stage, role: str, file: str) -> dict[str, Any]:
    """The record of a stage that another state of a source file made."""
    then = copy.deepcopy(made_by(stage.record))
    then["plugins"][role]["files"][file] = "0" * 16
    then["plugins"][role]["sha256"] = "1234abcd" * 8
    return then


def test_nothing_is_said_of_what_this_code_made(made: Plan, store: Folder) -> None:
    assert not changes(made, store)
    assert changes(made, store).lines() == []


def test_other_source_of_a_method_is_said_once_for_all_of_its_rows(
    made: Plan, store: Folder
) -> None:
    for stage in made.stages.values():
        if stage.spec.get("method", {}).get("name") == "lcm":
            store.write(stage, altered(stage, "method", "methods/shared/consistency.py"))
    (line,) = changes(made, store).lines()
    assert line.startswith("Made by other code: source of method lcm 1234abcd, now ")
    assert line.endswith("(methods/shared/consistency.py): LCM")


def test_other_packages_concern_the_rows_that_stand_on_the_stage(made: Plan, store: Folder) -> None:
    teacher = next(s for s in made.stages.values() if s.kind == "train" and not s.spec["data"])
    then = made_by(teacher.record)
    store.write(teacher, {**then, "packages": {**then["packages"], "torch": "1.0"}})
    found = changes(made, store)
    torch = made_by(teacher.record)["packages"]["torch"]
    assert found.causes == {teacher.key: (Cause("torch", "1.0", torch),)}
    assert found.lines() == [f"Made by other code: torch 1.0, now {torch}: DDIM"]
    record = found.as_json()["changed"][0]
    assert (record["rows"], record["stages"]) == (["DDIM"], [teacher.key])


def test_a_metric_concerns_the_tables_that_show_it(made: Plan, store: Folder) -> None:
    for stage in made.stages.values():
        if stage.spec.get("metric", {}).get("name") == "sw":
            store.write(stage, altered(stage, "metric", "metrics/sw.py"))
    found = changes(made, store)
    assert len(found.lines()) == 1
    shown = [replace(c, scores={"coverage": c.scores["coverage"]}) for c in made.cells]
    assert found.lines(shown) == []


def test_packages_that_make_no_number_are_not_compared(made: Plan) -> None:
    now = made_by(next(iter(made.stages.values())).record)
    assert causes_of({**now, "packages": {**now["packages"], "accelerate": "0"}}, now) == []
    gone = {k: v for k, v in now["packages"].items() if k != "peft"}
    assert [c.was for c in causes_of({**now, "packages": gone}, now)] == ["none"]


OWN = sha256(Path(__file__).resolve().parents[2] / "methods" / "lcm.py")


def test_of_records_of_before_the_own_file_of_a_plugin_is_compared(
    made: Plan, store: Folder
) -> None:
    plugins = {"method": {"source": "lcm.py", "sha256": "ab" * 32}}
    for stage in made.stages.values():
        if stage.spec.get("method", {}).get("name") == "lcm":
            store.write(stage, {"plugins": plugins, "packages": made_by(stage.record)["packages"]})
    (line,) = changes(made, store).lines()
    what = f"source of method lcm abababab, now {OWN[:8]} (methods/lcm.py)"
    assert line == f"Made by other code: {what}: LCM"


@pytest.mark.parametrize("plugin", [{"source": "lcm.py", "sha256": OWN}, {}])
def test_records_of_before_are_unknown_and_no_error(
    made: Plan, store: Folder, plugin: dict[str, Any]
) -> None:
    plugins = {"method": plugin}
    for stage in made.stages.values():
        if stage.spec.get("method", {}).get("name") == "lcm":
            store.write(stage, {"plugins": plugins, "packages": made_by(stage.record)["packages"]})
    (line,) = changes(made, store).lines()
    assert line == "Made before sources were recorded, so perhaps by other code: LCM"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"attempts": 3}', '{"attempts": [1]}', "null"])
def test_a_record_that_cannot_be_read_is_no_error(made: Plan, store: Folder, text: str) -> None:
    for stage in made.stages.values():
        (store.path(stage.kind, stage.key) / "provenance.json").write_text(text)
    assert changes(made, store).causes == {}


def test_any_attempt_counts(made: Plan, store: Folder) -> None:
    stage = next(s for s in made.stages.values() if s.spec.get("method", {}).get("name") == "tdm")
    then = altered(stage, "method", "methods/tdm.py")
    store.write(stage, then, made_by(stage.record))
    assert changes(made, store).causes.keys() == {stage.key}


def test_long_lists_of_rows_are_cut(made: Plan) -> None:
    cause = Cause("method x", "a", "b", tuple(f"f{i}.py" for i in range(20)))
    assert cause.line.endswith("f11.py and 8 more)")


def test_rooms_that_a_record_does_not_know_are_not_compared() -> None:
    """Sources there were not followed when it was made; those of rooms it knows are."""

    def record(**files: str) -> dict[str, Any]:
        named = {name.replace("__", "/"): digest for name, digest in files.items()}
        plugin = {"name": "p", "sha256": "0" * 64, "source": "p.py", "files": named}
        return {"plugins": {"backbone": plugin}, "packages": {}}

    old = record(backbones__p="1", world__data="2", api__samplers="3")
    now = record(
        backbones__p="1", world__data="2", api__samplers="3", drawings__render="4",
        api__stock_samplers="5",
    )  # fmt: skip
    assert causes_of(old, now) == []
    assert causes_of(now, record(backbones__p="1", world__data="2", api__samplers="3"))
    (cause,) = causes_of(old, record(backbones__p="1", world__data="2", api__samplers="3",
                                     world__scene="9", drawings__render="4"))  # fmt: skip
    assert cause.files == ("world/scene",)
