"""What varies one row: its own grid, zip and ablate, labels, and methods."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from distillbench.analysis.check import checked_plan
from distillbench.experiment.load import load_experiment
from distillbench.experiment.schema import Experiment
from distillbench.plan.stage import Plan

PlanOf = Callable[..., Plan]
Errors = Callable[..., list[str]]
TWO = "rows:\n  - {method: fake-teacher}\n  - {method: fake-student, label: Ours%s}\n"


def labels(plan: Plan) -> list[str]:
    return [cell.label or cell.title for cell in plan.cells]


def params(plan: Plan) -> list[tuple[str, float, str]]:
    """Label, eta and loss of each student."""
    found = [(c, plan.stages[c.train].spec["method"]["params"]) for c in plan.cells]
    return [(c.label or c.title, p["eta"], p["loss"]) for c, p in found if "eta" in p]


@pytest.mark.parametrize("kind", ["grid", "zip", "ablate"])
def test_a_row_varies_by_itself(plan_of: PlanOf, kind: str) -> None:
    plan = plan_of(TWO % f", {kind}: {{params.eta: [0.1, 0.9]}}")
    own = ["Ours"] if kind == "ablate" else []
    assert labels(plan) == ["Fake teacher", *own, "Ours (eta=0.1)", "Ours (eta=0.9)"]


def test_a_row_of_include_varies_by_its_own_alone(plan_of: PlanOf) -> None:
    plan = plan_of(
        "rows: [{method: fake-student}]\ngrid: {tags.x: [1, 2]}\n"
        "include: [{method: fake-student, label: More, ablate: {params.loss: [mse]}}]\n"
    )
    assert labels(plan) == ["FS (x=1)", "FS (x=2)", "More", "More (loss=mse)"]


def test_what_a_row_says_is_merged_over_what_the_file_says(plan_of: PlanOf) -> None:
    plan = plan_of(
        "rows:\n  - {method: fake-student, label: A}\n"
        "  - {method: fake-student, label: B, grid: {params.eta: [0.3]}}\n"
        "grid: {params.eta: [0.1, 0.2], params.loss: [mse]}\n"
    )
    assert params(plan) == [
        ("A (eta=0.1, loss=mse)", 0.1, "mse"), ("A (eta=0.2, loss=mse)", 0.2, "mse"),
        ("B (eta=0.3, loss=mse)", 0.3, "mse"),
    ]  # fmt: skip


def test_an_overlay_that_stands_alone_is_labelled_by_its_factor(plan_of: PlanOf) -> None:
    text = "rows: [{method: fake-student, label: Ours}]\nablate:\n  w/o eta: {params: {eta: 0}}\n"
    plan = plan_of(text + "  w/ mse, as in [1]: {params: {loss: mse}}\n")
    assert params(plan) == [
        ("Ours", 0.5, "huber"), ("w/o eta", 0.0, "huber"), ("w/ mse, as in [1]", 0.5, "mse"),
    ]  # fmt: skip
    assert [dict(cell.varied) for cell in plan.cells] == [{}, {}, {}]


def test_labels_of_ablations_keep_the_values_of_the_grid(plan_of: PlanOf) -> None:
    plan = plan_of(
        "rows: [{method: fake-student, label: Ours}]\ngrid: {params.eta: [0.1, 0.2]}\n"
        "ablate: {w/ mse: {params: {loss: mse}}, w/o eta: {params: {eta: 0}}}\n"
    )
    assert params(plan) == [
        ("Ours (eta=0.1)", 0.1, "huber"), ("w/ mse (eta=0.1)", 0.1, "mse"),
        ("w/o eta", 0.0, "huber"),
        ("Ours (eta=0.2)", 0.2, "huber"), ("w/ mse (eta=0.2)", 0.2, "mse"),
    ]  # fmt: skip
    assert [cell.varied["params.eta"] for cell in plan.cells] == [0.1, 0.1, 0, 0.2, 0.2]


def test_a_label_walked_in_step_names_the_cells(plan_of: PlanOf) -> None:
    plan = plan_of(
        "rows:\n  - method: fake-student\n"
        "    zip: {label: [mild, wild], params.eta: [0.1, 0.9], params.loss: [huber, mse]}\n"
        "grid: {tags.x: [1, 2]}\nexclude: [{label: wild, x: 1}]\n"
    )
    assert params(plan) == [
        ("mild (x=1)", 0.1, "huber"), ("mild (x=2)", 0.1, "huber"), ("wild (x=2)", 0.9, "mse"),
    ]  # fmt: skip
    assert plan.cells[-1].varied["params.eta"] == 0.9


@pytest.mark.parametrize(
    "varied",
    ["grid: {method: [fake-student, fake-tuned]}", "zip: {method: [fake-student, fake-tuned]}",
     "ablate: {of: [{method: fake-tuned, label: T}]}", "ablate: {tuned: {method: fake-tuned}}"],
)  # fmt: skip
def test_settings_of_a_method_reach_rows_that_are_changed_to_it(
    plan_of: PlanOf, varied: str
) -> None:
    given = (
        "for_method:\n  fake-student: {nfe: [1, 2], train: {updates: 3}}\n"
        "  fake-tuned: {nfe: 3, train: {updates: 7}}\n"
    )
    plan = plan_of(f"{given}rows:\n  - {{method: fake-student, {varied}}}\n")
    found = [(c.method, c.nfe, plan.stages[c.train].spec["train"]["updates"]) for c in plan.cells]
    assert found == [("fake-student", 1, 3), ("fake-student", 2, 3), ("fake-tuned", 3, 7)]
    assert plan.notes == ()


def test_a_row_starts_from_the_ablation_of_its_own_grid_value(plan_of: PlanOf) -> None:
    plan = plan_of(
        "rows:\n"
        "  - {method: fake-student, label: First, ablate: {Second: {params: {loss: mse}}}}\n"
        "  - {method: fake-student, label: Third, init: Second}\n"
        "grid: {params.eta: [0.1, 0.2]}\n"
    )
    trains = {cell.label: cell.train for cell in plan.cells}
    for value in (0.1, 0.2):
        stage = plan.stages[trains[f"Third (eta={value})"]]
        assert stage.needs == (trains[f"Second (eta={value})"],)


def test_the_size_counts_what_rows_vary(plan_of: PlanOf) -> None:
    text = (
        "for_method: {fake-tuned: {nfe: [1, 2, 4]}}\n"
        "rows:\n  - {method: fake-student, ablate: {A: {method: fake-tuned}, B: {nfe: [1, 2]}}}\n"
        "  - {method: fake-student, label: C, grid: {params.eta: [1, 2]}, zip: {nfe: [1, 2]}}\n"
    )
    assert len(plan_of(text).cells) == 1 + 3 + 2 + 4
    with pytest.raises(Exception, match=r"e.yaml:7:38: rows\[1\].grid: the number of cells 508"):
        plan_of(text.replace("[1, 2]}, zip", f"[{'1, ' * 249}1]}}, zip"), sets=["limits.cells=500"])


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ("grid: {params.eta: []}", "e.yaml:4:38: rows[0].grid.params.eta: list should have at "
         "least 1 item after validation, not 0, got []."),
        ("ablate: {x: 5}", "e.yaml:4:40: rows[0].ablate.x: a list of values is needed, or one "
         "overlay such as {params: {...}}"),
        ("ablate: {x: {}}", "e.yaml:4:40: rows[0].ablate.x: a list of values is needed, or one "
         "overlay such as {params: {...}}"),
        ("ablate: {params: {eta: 1}}", "e.yaml:4:40: rows[0].ablate.params: 'params' is a path "
         "into a row, so a list of its values is needed, or another label"),
        ("grid: {'': [1]}", "e.yaml:4:43: rows[0].grid.[0]: unknown key. A row has: "),
        ("ablate: {x: {nef: 1}}", "e.yaml:4:44: rows[0].ablate.x.nef: unknown key. A row has: "),
        ("ablate: {x: {grid: {}}}", "e.yaml:4:44: rows[0].ablate.x.grid: unknown key. A row has: "),
        ("zip: {nfe: [1], params.eta: [1, 2]}", "e.yaml:4:31: rows[0].zip: lists walked in step "
         "must be equally long: nfe has 1, params.eta has 2"),
        ('grid: {label: ["a\\tb"]}', "e.yaml:4:46: rows[0].grid.label[0]: 'a\\tb' must be one "),
    ],
)  # fmt: skip
def test_mistakes_in_a_row_are_told_at_their_place(errors_of: Errors, row: str, line: str) -> None:
    found = errors_of(f"rows: [{{method: fake-student, {row}}}]\n")
    assert len(found) == 1
    assert found[0].startswith(line)


@pytest.mark.parametrize("place", ["base: ", "for_method: {fake-student: ", "ablate: {x: "])
def test_what_varies_stands_in_rows_and_in_the_file_alone(errors_of: Errors, place: str) -> None:
    text = f"{place}{{grid: {{nfe: [1]}}}}{'}' * place.count('{')}\n"
    head = "name: t\nbackbones: {b: fake-points}\n"
    rows = "rows: [{backbone: b, method: fake-student}]\n"
    (line,) = errors_of(text + rows, head=head)
    assert "grid: unknown key. " in line


def test_rows_made_in_code_are_held_to_the_same(plan_of: PlanOf) -> None:
    whole = {
        "name": "t", "backbones": {"b": {"use": "fake-points"}},
        "base": {"backbone": "b", "method": "fake-student"},
    }  # fmt: skip
    rows = [{"label": "A", "grid": {"params.eta": [0.1, 0.2]}, "ablate": {"B": {"nfe": 2}}}]
    plan = checked_plan(Experiment.model_validate({**whole, "rows": rows}))
    assert labels(plan) == ["A (eta=0.1)", "B (eta=0.1)", "A (eta=0.2)", "B (eta=0.2)"]
    with pytest.raises(Exception, match="list"):
        checked_plan(Experiment.model_validate({**whole, "rows": [{"grid": {"nfe": 3}}]}))


def test_an_override_is_written_as_errors_write_a_place(plan_of: PlanOf) -> None:
    plan_of(TWO % ", ablate: {w/ mse: {params: {loss: mse}}}")
    sets = ["rows[1].ablate.w/ mse.train.updates=3", "rows.1.nfe=[1, 2]"]
    plan = checked_plan(load_experiment(Path("e.yaml"), sets=sets))
    updates = [plan.stages[cell.train].spec["train"].get("updates") for cell in plan.cells]
    assert updates == [None, 10, 10, 3, 3]
