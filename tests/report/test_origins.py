"""A table says where one name in it stands for two things, with the rows and both values."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from distillbench.analysis.aggregate import Results
from distillbench.report.tables import build_table

OLD, NEW = "ab" * 32, "cd" * 32


@pytest.fixture
def three(world: Any) -> Any:
    """Three rows of one backbone and one world."""
    for label in ("LCM", "TCD", "TDM"):
        world.row(label, 30.0, 5.0)
        for kind in ("train", "sample"):
            change(world, label, kind, backbone={"revision": OLD})
    return world


def notes(world: Any, make_experiment: Any, infos: Any) -> list[str]:
    asked = make_experiment(tables=[{"name": "t", "columns": ["label", "hps"]}])
    table = build_table(asked.tables[0], asked, Results(world.plan, world.store), infos)
    return [note for note in table.notes if note.startswith(("Teacher", "Version", "Device"))]


def change(world: Any, label: str, kind: str, **parts: Any) -> None:
    """Change a part of the spec of a row's stage."""
    for cell in [cell for cell in world.cells if cell.label == label]:
        key = getattr(cell, kind)
        spec = {**world.stages[key].spec}
        for part, fields in parts.items():
            spec[part] = {**spec[part], **fields}
        world.stages[key] = replace(world.stages[key], spec=spec)


def test_rows_of_one_origin_say_nothing(three: Any, make_experiment: Any, infos: Any) -> None:
    assert notes(three, make_experiment, infos) == []


def test_weights_of_two_worlds_under_one_name(three: Any, make_experiment: Any, infos: Any) -> None:
    for kind in ("train", "sample"):
        change(three, "TDM", kind, backbone={"revision": NEW})
    (note,) = notes(three, make_experiment, infos)
    assert note == "Teacher SD-v1.5: gmm, weights abababab, but gmm, weights cdcdcdcd for TDM."


def test_settings_that_decide_are_told_too(three: Any, make_experiment: Any, infos: Any) -> None:
    for kind in ("train", "sample"):
        change(three, "TDM", kind, backbone={"params": {"resolution": 64}})
    (note,) = notes(three, make_experiment, infos)
    was = "gmm, weights abababab"
    assert re.fullmatch(f"Teacher SD-v1.5: {was}, but {was}, settings [0-9a-f]{{8}} for TDM.", note)


def test_two_versions_of_a_method(three: Any, make_experiment: Any, infos: Any) -> None:
    for kind in ("train", "sample"):
        change(three, "TDM", kind, method={"version": 2})
    assert notes(three, make_experiment, infos) == ["Version of teacher: 1, but 2 for TDM."]


def test_what_a_row_starts_from_counts(three: Any, make_experiment: Any, infos: Any) -> None:
    """The teacher of a training is under it."""
    lcm, _, tdm = (cell.train for cell in three.cells)
    change(three, "LCM", "train", method={"version": 7})
    stage = three.stages[tdm]
    three.stages[tdm] = replace(stage, needs=(lcm,))
    (note,) = notes(three, make_experiment, infos)
    assert note == "Version of teacher: 1 and 7, but 1 for TCD."


def test_devices_of_two_kinds(three: Any, make_experiment: Any, infos: Any) -> None:
    """Two cards of one kind are one."""
    for cell, device in zip(three.cells, ("cuda:0", "cuda:1", "cpu"), strict=True):
        for kind, key in (("train", cell.train), ("sample", cell.sample)):
            path = three.store.path(kind, key) / "cost.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | {"device": device}))
    assert notes(three, make_experiment, infos) == ["Device: cuda, but cpu for TDM."]


def test_the_same_label_of_two_backbones(world: Any, make_experiment: Any, infos: Any) -> None:
    for label, alias, revision in (("LCM", "a", OLD), ("TDM", "b", NEW)):
        world.row(label, 30.0, 5.0, backbone=alias)
        for kind in ("train", "sample"):
            change(world, label, kind, backbone={"revision": revision})
    for shown, told in (({"a": "tiny", "b": "tiny"}, 1), ({"a": "tiny", "b": "other"}, 0)):
        backbones = {alias: {"use": "sd", "label": label} for alias, label in shown.items()}
        asked = make_experiment(
            tables=[{"name": "t", "columns": ["label", "hps"]}], backbones=backbones
        )
        table = build_table(asked.tables[0], asked, Results(world.plan, world.store), infos)
        assert sum(note.startswith("Teacher tiny") for note in table.notes) == told
