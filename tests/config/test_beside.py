"""Paths in an experiment file are found beside it, from whatever folder it is run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distillbench.analysis.check import checked_plan
from distillbench.errors import BadInput
from distillbench.experiment.beside import beside
from distillbench.experiment.load import load_experiment
from distillbench.plan.stage import Plan

HEAD = """\
name: t
backbones: {b: {use: fake-points}}
base: {backbone: b, train: {updates: 10}, sample: {n: 2, prompts: PROMPTS}}
rows: [{method: fake-student, nfe: 4MORE}]
metrics: [fake-spread]
"""
ROOT = Path(__file__).resolve().parents[2]

Planned = Callable[..., Plan]


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Planned:
    """Plans `own/e.yaml` from the folder above it, where `own` holds prompts and so may that."""
    own = tmp_path / "own"
    own.mkdir()
    (own / "few.txt").write_text("one\ntwo\n")
    monkeypatch.chdir(tmp_path)

    def plan(prompts: str, more: str = "", **options: Any) -> Plan:
        text = HEAD.replace("PROMPTS", prompts).replace("MORE", more)
        (own / "e.yaml").write_text(text)
        return checked_plan(load_experiment("own/e.yaml", **options))

    return plan


def prompts_of(plan: Plan) -> set[str]:
    return {stage.runtime["prompts"] for stage in plan.stages.values() if stage.kind == "sample"}


@pytest.mark.parametrize("name", ["few.txt", "./few.txt", "../own/few.txt", "own/few.txt"])
def test_prompts_are_found_from_the_file_and_from_the_working_folder(
    planned: Planned, tmp_path: Path, name: str
) -> None:
    found = planned(name)
    assert [Path(p).resolve() for p in prompts_of(found)] == [tmp_path / "own" / "few.txt"]
    assert found.stages.keys() == planned(str(tmp_path / "own" / "few.txt")).stages.keys()


def test_the_file_beside_the_experiment_goes_before_one_of_the_working_folder(
    planned: Planned, tmp_path: Path
) -> None:
    (tmp_path / "few.txt").write_text("other\n")
    assert prompts_of(planned("few.txt")) == {str(tmp_path / "own" / "few.txt")}
    assert prompts_of(planned("none.txt", sets=["base.sample.prompts=few.txt"])) == {
        str(tmp_path / "few.txt")
    }


def test_factors_and_overlays_name_files_too(planned: Planned, tmp_path: Path) -> None:
    (tmp_path / "own" / "more.txt").write_text("three\nfour\n")
    found = planned("world-eval", ", grid: {sample.prompts: [few.txt, more.txt]}")
    assert {Path(p).name for p in prompts_of(found)} == {"few.txt", "more.txt"}
    found = planned("world-eval", ", ablate: {sample.prompts: [few.txt]}")
    assert str(tmp_path / "own" / "few.txt") in prompts_of(found)


def test_where_it_was_looked_for_is_said(planned: Planned, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        planned("none.txt")
    (line,) = caught.value.line.splitlines()
    assert line.startswith("own/e.yaml:3:")
    assert line.endswith(f" (neither beside own/e.yaml nor in {tmp_path})")
    with pytest.raises(BadInput) as caught:
        planned("few.txt", ", data: {images: ./pictures}")
    where = f"(neither beside own/e.yaml nor in {tmp_path})"
    assert f"no folder ./pictures {where}" in caught.value.line
    with pytest.raises(BadInput) as caught:
        planned("few.txt", sets=["base.sample.prompts=none.txt"])
    assert "neither beside" not in caught.value.line
    (tmp_path / "here.yaml").write_text(HEAD.replace("PROMPTS", "none.txt").replace("MORE", ""))
    with pytest.raises(BadInput) as caught:
        checked_plan(load_experiment(tmp_path / "here.yaml"))
    assert "neither beside" not in caught.value.line


def test_samples_of_others_lie_beside_the_file(tmp_path: Path, monkeypatch: Any) -> None:
    from PIL import Image

    own = tmp_path / "own"
    for seed in (0, 1):
        folder = own / "made" / str(seed)
        folder.mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (32, 32), (seed, number, 9)).save(folder / f"{number}.png")
    (own / "e.yaml").write_text(
        "name: t\nbase: {sample: {prompts: world-eval, n: 2}}\nseeds: [0, 1]\n"
        "rows: [{samples: 'made/{seed}', nfe: 4}]\nmetrics: [clip]\n"
    )
    keys = []
    for folder, path in ((tmp_path, "own/e.yaml"), (own, "e.yaml")):
        monkeypatch.chdir(folder)
        keys.append(list(checked_plan(load_experiment(path)).stages))
    assert keys[0] == keys[1]


@pytest.mark.parametrize(
    ("text", "setting", "led"),
    [
        ("w.pt", "weights", "own/w.pt"), ("w.pt#sha256=ab", "weights", "own/w.pt#sha256=ab"),
        ("net", "weights", "net"), ("./net", "weights", "own/./net"), ("net/", "model", "own/net/"),
        ("net", "samples", "own/net"), ("net/{seed}", "samples", "own/net/{seed}"),
        ("net", "images", "net"), ("w.pt", "reference", "w.pt"),
        ("./w.pt", "reference", "own/./w.pt"), ("gone/p.txt", "prompts", "gone/p.txt"),
        ("v2.1", "weights", "v2.1"), ("owner/name@main", "model", "owner/name@main"),
        ("p.txt:photo,art", "prompts", "own/p.txt:photo,art"),
        ("/w.pt", "weights", "/w.pt"), ("~/w.pt", "weights", "~/w.pt"), ("", "samples", ""),
        ("w.pt", "", "w.pt"),
    ],
)  # fmt: skip
def test_what_is_a_path_is_told_by_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, setting: str, led: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own/net").mkdir(parents=True)
    for name in ("w.pt", "p.txt", "v2.1"):
        Path("own", name).write_text("x")
    assert beside(text, Path("own"), setting) == led


@pytest.mark.parametrize(
    ("part", "place"),
    [
        ("backbones: {b: {use: sd, params: {model: ./net}}}",
         ("backbones", "b", "params", "model")),
        ("metrics: [{use: fid, params: {reference: {images: ./net}}}]",
         ("metrics", 0, "params", "reference", "images")),
        ("metrics: [{use: fid, params: {weights: w.pt}}]", ("metrics", 0, "params", "weights")),
        ("reference: {images: ./net}", ("reference", "images")),
        ("rows: [{method: pretrained, grid: {params.weights: [w.pt]}}]",
         ("rows", 0, "grid", "params.weights", 0)),
        ("for_method: {pretrained: {params: {weights: w.pt}}}",
         ("for_method", "pretrained", "params", "weights")),
        ("rows: [{method: lcm, adapters: [{weights: w.pt}]}]",
         ("rows", 0, "adapters", 0, "weights")),
        ("rows: [{method: lcm, image_prompts: [{weights: w.pt, encoder: ./net, images: ./net}]}]",
         ("rows", 0, "image_prompts", 0, "encoder")),
    ],
)  # fmt: skip
def test_every_setting_that_names_a_file_is_led(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str, place: tuple[Any, ...]
) -> None:
    from distillbench.experiment.beside import found_beside
    from distillbench.files.marks import Problems
    from distillbench.files.yaml import read_yaml

    monkeypatch.chdir(tmp_path)
    Path("own/net").mkdir(parents=True)
    Path("own/w.pt").write_text("x")
    Path("own/e.yaml").write_text(part + "\n")
    node: Any = found_beside(read_yaml(Path("own/e.yaml"), Problems()), Path("own"))
    for step in place:
        node = node[step]
    assert node in ("own/./net", "own/w.pt")


def test_a_setting_that_decides_a_key_stays_as_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unmarked text of a plug-in is in the key of its results, whatever it looks like."""
    from distillbench.experiment.beside import found_beside
    from distillbench.files.marks import Problems
    from distillbench.files.yaml import read_yaml

    monkeypatch.chdir(tmp_path)
    Path("own/lora").mkdir(parents=True)
    Path("own/e.yaml").write_text("rows: [{method: lcm, label: ./lora, params: {nets: ./lora}}]\n")
    before = read_yaml(Path("own/e.yaml"), Problems())
    assert json.dumps(found_beside(before, Path("own"))) == json.dumps(before)


def test_the_experiment_of_pictures_plans_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = []
    for folder in (ROOT, tmp_path):
        monkeypatch.chdir(folder)
        keys.append(list(checked_plan(load_experiment(ROOT / "experiments/pictures.yaml")).stages))
    assert keys[0] == keys[1]
