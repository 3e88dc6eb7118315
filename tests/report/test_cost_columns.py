"""Costs that a table or a curve asks for by name, and tables that are pages of their own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distillbench.analysis.aggregate import Results
from distillbench.analysis.check import checked_plan
from distillbench.analysis.costs import COSTS, COUNTED, MEASURED
from distillbench.errors import ConfigError
from distillbench.experiment.load import load_experiment
from distillbench.report.cost import MEASURED as COLUMNS
from distillbench.report.curves import _named, _points, _series
from distillbench.report.tables import build_table
from distillbench.report.writers import table_csv, table_tex
from distillbench.testing.specs import train_spec

FILE = """\
name: costs
base: {backbone: gmm, sample: {n: 16}}
rows: [{method: lcm, nfe: [4, 2]}]
metrics: [sw]
"""


@pytest.fixture
def demo(world: Any) -> Any:
    """Two rows at two numbers of evaluations and a teacher."""
    for nfe in (4, 2):
        world.row("TDM", 30.0 + nfe, 5.0, nfe=nfe, seeds=(0, 1))
    world.row("Teacher", 31.0, 5.0, nfe=8, ranked=False, updates=0)
    return world


def test_every_cost_of_the_cost_table_has_a_name() -> None:
    assert {m.column.key for m in COLUMNS} | {"evaluations"} == {*MEASURED, *COUNTED}


def test_costs_stand_beside_quality_and_are_not_ranked(
    demo: Any, make_experiment: Any, infos: Any
) -> None:
    columns = ["label", "nfe", "hps", "cost.train_seconds", "cost.sample_ms", "cost.evaluations"]
    asked = make_experiment(tables=[{"name": "t", "columns": columns}])
    table = build_table(asked.tables[0], asked, Results(demo.plan, demo.store), infos)
    assert [column.label for column in table.columns[3:]] == [
        "Training wall s", "Sampling ms per sample", "Evaluations per sample",
    ]  # fmt: skip
    assert [cell.value for cell in table.lines[0].cells[3:]] == [12.5, 1562.5, 4]
    assert {cell.rank for line in table.lines for cell in line.cells[3:]} == {0}
    assert "Costs were measured on cpu, and differ from run to run." in table.notes
    assert "cost.train_seconds" in table_csv(table).splitlines()[0]


def test_counted_costs_are_the_same_in_every_run(
    demo: Any, make_experiment: Any, infos: Any
) -> None:
    asked = make_experiment(tables=[{"name": "t", "columns": ["label", "hps", "cost.teacher_nfe"]}])
    table = build_table(asked.tables[0], asked, Results(demo.plan, demo.store), infos)
    assert not [note for note in table.notes if note.startswith("Costs")]
    assert table.lines[0].cells[2].text == "300"


@pytest.mark.parametrize(
    ("cost", "hours"),
    [
        ({"device": "cpu", "seconds": 100.0, "cpu_seconds": 7200.0, "processes": 2}, 2.0),
        ({"device": "cuda:0", "seconds": 1800.0, "cpu_seconds": 7200.0, "processes": 4}, 2.0),
        ({"device": "cuda:0", "seconds": 1800.0, "cpu_seconds": 7200.0}, 0.5),
        ({"device": "cpu", "seconds": 1800.0}, None),
        ({"device": ""}, None),
    ],
)
def test_compute_hours_are_of_processors_or_gpus(cost: Any, hours: float | None) -> None:
    assert COSTS["compute_hours"][1](cost) == hours


def test_training_samples_are_those_of_all_processes(
    world: Any, make_experiment: Any, infos: Any
) -> None:
    """100 updates of 2 processes with 3 micro-batches of 8 each."""
    world.row("TDM", 30.0, 5.0)
    key = world.cells[0].train
    train = {"updates": 100, "batch_size": 8, "accumulate": 3, "processes": 2}
    world.stages[key] = replace(world.stages[key], spec=train_spec("teacher", {}, **train))
    columns = ["label", "cost.train_samples", "cost.student_updates"]
    asked = make_experiment(tables=[{"name": "t", "columns": columns}])
    table = build_table(asked.tables[0], asked, Results(world.plan, world.store), infos)
    assert [cell.value for cell in table.lines[0].cells[1:]] == [4800, 100]


def test_a_table_of_costs_says_that_a_teachers_training_is_not_in_them(
    world: Any, make_experiment: Any, infos: Any
) -> None:
    world.row("SFT", 30.0, 5.0)
    world.row("TDM", 30.0, 5.0)
    first, second = (cell.train for cell in world.cells)
    world.stages[second] = replace(
        world.stages[second], spec=world.stages[second].spec | {"teacher": first}
    )
    for column, told in (("cost.train_seconds", 1), ("cost.sample_ms", 0), ("nfe", 0)):
        asked = make_experiment(tables=[{"name": "t", "columns": ["label", column]}])
        table = build_table(asked.tables[0], asked, Results(world.plan, world.store), infos)
        assert sum("starts from" in note for note in table.notes) == told


def test_what_is_not_done_has_no_cost_but_a_reason(
    world: Any, make_experiment: Any, infos: Any
) -> None:
    world.row("TDM", 30.0, 5.0, done=False)
    asked = make_experiment(tables=[{"name": "t", "columns": ["label", "cost.sample_ms"]}])
    table = build_table(asked.tables[0], asked, Results(world.plan, world.store), infos)
    assert table.lines[0].cells[1].text == "--"
    assert "is not done" in dict(table.footnotes)["a"]


def test_a_sample_that_was_timed_with_loading_says_so(
    demo: Any, make_experiment: Any, infos: Any
) -> None:
    path = demo.store.path("sample", demo.cells[0].sample) / "cost.json"
    cost = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in cost.items() if not k.startswith("timed_")}))
    columns = ["label", "cost.train_seconds", "cost.sample_ms"]
    asked = make_experiment(tables=[{"name": "t", "columns": columns}])
    table = build_table(asked.tables[0], asked, Results(demo.plan, demo.store), infos)
    marked = [[cell.marks for cell in line.cells[1:]] for line in table.lines]
    assert marked == [[(), ("a",)], [(), ()], [(), ()]]
    assert "with the loading of networks" in dict(table.footnotes)["a"]


def test_a_curve_over_a_cost_has_one_line_a_row_name(
    demo: Any, make_experiment: Any, infos: Any
) -> None:
    results = Results(demo.plan, demo.store)
    series = _series("cost.sample_ms", results.rows, make_experiment())
    assert {name: len(rows) for name, rows in series.items()} == {"TDM": 2, "Teacher": 1}
    points = _points(results, series["TDM"], "cost.evaluations", "hps", "")
    assert sorted(point.x for point in points) == [2.0, 4.0]


def planned(tmp_path: Path, more: str) -> Any:
    (tmp_path / "e.yaml").write_text(FILE + more)
    return checked_plan(load_experiment(tmp_path / "e.yaml"))


def test_costs_and_settings_are_known_when_a_file_is_checked(tmp_path: Path) -> None:
    columns = "label, lr, train.batch_size, cost.peak_memory_mib"
    table = f"tables: [{{name: t, columns: [{columns}, sw]}}]\n"
    assert planned(tmp_path, table + "figures: [{name: f, kind: curve, x: cost.sample_ms, y: sw}]")


@pytest.mark.parametrize(
    "more",
    ["tables: [{name: t, columns: [label, cost.seconds]}]",
     "figures: [{name: f, kind: curve, x: cost.seconds, y: sw}]"],
)  # fmt: skip
def test_an_unknown_cost_is_told_with_those_there_are(tmp_path: Path, more: str) -> None:
    with pytest.raises(ConfigError) as caught:
        planned(tmp_path, more)
    (problem,) = caught.value.problems
    assert "e.yaml:5:" in problem
    assert "unknown cost 'cost.seconds'; there are: cost.train_seconds" in problem


def test_a_standalone_table_is_a_page_and_the_body_still_floats(
    demo: Any, make_experiment: Any, infos: Any
) -> None:
    asked = make_experiment(tables=[{"name": "t", "caption": "50 %", "standalone": True}])
    table = build_table(asked.tables[0], asked, Results(demo.plan, demo.store), infos)
    document, body = table_tex(table)
    assert r"{standalone}" in document
    assert r"\begin{table}" not in document
    assert r"50 \%\par" in document
    assert document.count(r"\begin{") == document.count(r"\end{")
    assert body.startswith(r"% Needs \usepackage{booktabs,graphicx,xcolor}")
    assert r"\begin{table}" in body


def test_a_curve_over_what_training_cost_has_its_snapshots() -> None:
    assert _named("cost.train_cpu_seconds") == ("cost.train_cpu_seconds", "updates")
    assert _named("cost.sample_ms") == ("cost.sample_ms",)
    assert _named("nfe") == ("nfe",)
