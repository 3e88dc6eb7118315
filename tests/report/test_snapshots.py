"""Snapshots in tables and curves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distillbench.analysis.aggregate import Results
from distillbench.experiment.outputs import FigureConfig, TableConfig
from distillbench.report import curves
from distillbench.report.tables import build_table


@pytest.fixture
def way(world: Any) -> Any:
    """A teacher, and a fine-tuned one and a student that are taken on the way too."""
    for nfe in (25, 4):
        world.row("Teacher", 25.0, 3.0, nfe=nfe, ranked=False, updates=0)
    for updates in (50, 100):
        final = updates == 100
        for nfe in (25, 4):
            world.row("Tuned", 26.0, 3.0, nfe=nfe, ranked=False, updates=updates, final=final)
        world.row("TDM", 30.0, 5.0, updates=updates, final=final)
    return world


@pytest.fixture
def lines_over(
    make_experiment: Any, infos: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, Any], dict[str, list[float]]]:
    """Axis, world -> label and places of each line that a curve of hps draws."""

    def draw(x: str, world: Any) -> dict[str, list[float]]:
        drawn: list[Any] = []
        monkeypatch.setattr(curves, "save", lambda figure, *args: drawn.extend([figure]))
        results, experiment = Results(world.plan, world.store), make_experiment()
        config = FigureConfig(name="c", kind="curve", x=x, y="hps")
        curves.draw_curve(config, experiment, results, infos, tmp_path)
        return {line.get_label(): list(line.get_xdata()) for line in drawn[0].axes[0].get_lines()}

    return draw


def test_a_table_of_students_on_the_way_says_when_they_were_taken(
    way: Any, make_experiment: Any, infos: Any
) -> None:
    results, experiment = Results(way.plan, way.store), make_experiment()
    ends = build_table(TableConfig(name="t"), experiment, results, infos)
    assert "updates" not in [column.key for column in ends.columns]
    assert len(ends.lines) == 5
    asked = TableConfig(name="t", where={"updates": [50, 100]})
    table = build_table(asked, experiment, results, infos)
    place = [column.key for column in table.columns].index("updates")
    assert [line.cells[place].value for line in table.lines] == [50, 50, 50, 100, 100, 100]


def test_a_table_grouped_by_updates_speaks_of_them(
    way: Any, make_experiment: Any, infos: Any
) -> None:
    results, experiment = Results(way.plan, way.store), make_experiment()
    asked = TableConfig(name="t", columns=["label", "hps"], group_by="updates")
    table = build_table(asked, experiment, results, infos)
    assert {line.group for line in table.lines} == {"0", "50", "100"}


def test_a_point_of_a_part_of_the_seeds_says_so(
    world: Any, lines_over: Callable[[str, Any], dict[str, list[float]]]
) -> None:
    for nfe in (1, 2):
        world.row("LCM", 25.0, 3.0, nfe=nfe, seeds=(0, 1))
    world.store.problems[world.cells[-1].scores["hps"]] = "a damaged disk"
    assert lines_over("nfe", world) == {"LCM": [1, 2], "LCM, part of the seeds": [2]}


def test_a_floor_is_no_point_of_a_line_of_shared_noise(
    world: Any, make_experiment: Any, infos: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """And distances to two references say that they are."""
    for nfe in (25, 4, 1):
        world.row(f"T{nfe}", 30.0, 5.0, nfe=nfe)
        world.compare(f"T{nfe}", f"reference {nfe}", of="Teacher", noise=1000 * (nfe == 25))
    world.cells[:] = [replace(cell, label="Teacher") for cell in world.cells]
    drawn: list[Any] = []
    monkeypatch.setattr(curves, "save", lambda figure, *args: drawn.append(figure.axes[0]))

    def draw() -> Any:
        config = FigureConfig(name="c", kind="curve", x="nfe", y="fid")
        results = Results(world.plan, world.store)
        curves.draw_curve(config, make_experiment(), results, infos, tmp_path)
        return drawn[-1]

    lines = {line.get_label(): list(line.get_xdata()) for line in draw().get_lines()}
    assert lines == {"Teacher, to other noise": [25], "Teacher": [1, 4]}
    assert draw().get_ylabel() == "FID (lower is better)"
    world.row("another", 30.0, 5.0)
    world.compare("another", "another's", of="another teacher")
    assert draw().get_ylabel() == "FID, each to its own reference (lower is better)"


def test_runs_of_one_name_are_lines_of_their_own(
    world: Any, lines_over: Callable[[str, Any], dict[str, list[float]]]
) -> None:
    for _ in range(2):
        for nfe in (1, 2):
            world.row("LCM", 25.0, 3.0, nfe=nfe)
    assert lines_over("nfe", world) == {"LCM": [1, 2], "LCM (2)": [1, 2]}


def test_a_tuned_teacher_is_a_line_over_updates_and_a_plain_one_a_level(
    way: Any, lines_over: Callable[[str, Any], dict[str, list[float]]]
) -> None:
    assert lines_over("updates", way) == {
        "Teacher, NFE 25": [0, 1], "Teacher, NFE 4": [0, 1],
        "Tuned, NFE 25": [50, 100], "Tuned, NFE 4": [50, 100], "TDM, NFE 4": [50, 100],
    }  # fmt: skip
