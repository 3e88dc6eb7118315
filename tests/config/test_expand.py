"""The grid language, point by point."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from distillbench.errors import BadInput
from distillbench.plan.stage import Plan

PlanOf = Callable[..., Plan]


def labels(plan: Plan) -> list[str]:
    seen = {cell.row: cell.label or cell.title for cell in plan.cells}
    return list(seen.values())


def varied(plan: Plan) -> list[dict[str, object]]:
    return list({cell.row: dict(cell.varied) for cell in plan.cells}.values())


def test_no_rows_is_the_base_alone(plan_of: PlanOf) -> None:
    plan = plan_of("", head="name: t\nbase: {backbone: fake-points, method: fake-teacher}\n")
    assert labels(plan) == ["Fake teacher"]


def test_rows_override_the_base_and_a_list_of_nfe_makes_rows(plan_of: PlanOf) -> None:
    plan = plan_of(
        "rows:\n  - {method: fake-student, nfe: [4, 1], label: A}\n  - {method: fake-teacher}\n"
    )
    assert [(cell.label, cell.title, cell.nfe) for cell in plan.cells] == [
        ("A", "FS", 4), ("A", "FS", 1), ("", "Fake teacher", 4),
    ]  # fmt: skip


def test_grid_is_a_product_over_every_row(plan_of: PlanOf) -> None:
    plan = plan_of(
        "rows: [{method: fake-student}]\ngrid: {params.eta: [0.1, 0.2], train.updates: [5, 6]}\n"
    )
    assert varied(plan) == [
        {"params.eta": 0.1, "train.updates": 5}, {"params.eta": 0.1, "train.updates": 6},
        {"params.eta": 0.2, "train.updates": 5}, {"params.eta": 0.2, "train.updates": 6},
    ]  # fmt: skip
    assert labels(plan)[0] == "FS (eta=0.1, updates=5)"
    assert len({cell.train for cell in plan.cells}) == 4


def test_grid_over_methods_needs_no_suffix(plan_of: PlanOf) -> None:
    plan = plan_of("grid: {method: [fake-student, fake-teacher], nfe: [1, 2]}\n")
    assert labels(plan) == ["FS", "FS", "Fake teacher", "Fake teacher"]
    assert [cell.nfe for cell in plan.cells] == [1, 2, 1, 2]


def test_zip_walks_in_step_inside_the_grid(plan_of: PlanOf) -> None:
    plan = plan_of(
        "rows: [{method: fake-student}]\ngrid: {nfe: [1, 2]}\n"
        "zip: {params.eta: [0.1, 0.2], train.batch_size: [8, 16]}\n"
    )
    assert [tuple(v.values()) for v in varied(plan)] == [
        (1, 0.1, 8), (1, 0.2, 16), (2, 0.1, 8), (2, 0.2, 16),
    ]  # fmt: skip


def test_a_mapping_in_the_grid_merges(plan_of: PlanOf) -> None:
    plan = plan_of(
        "rows: [{method: fake-student, params: {steps: 2, eta: 0.9}, nfe: 2}]\n"
        "grid: {params: [{eta: 0.1}, {loss: mse}]}\n"
    )
    params = [plan.stages[cell.train].spec["method"]["params"] for cell in plan.cells]
    assert [(p["steps"], p["eta"], p["loss"]) for p in params] == [
        (2, 0.1, "huber"), (2, 0.9, "mse"),
    ]  # fmt: skip


def test_ablate_is_one_factor_at_a_time_round_the_centre(plan_of: PlanOf) -> None:
    plan = plan_of(
        "rows: [{method: fake-student, label: Ours}]\n"
        "ablate:\n  params.eta: [0.1, 0.9]\n  params.loss: [mse]\n"
    )
    assert labels(plan) == ["Ours", "Ours (eta=0.1)", "Ours (eta=0.9)", "Ours (loss=mse)"]


def test_ablate_by_overlays(plan_of: PlanOf) -> None:
    plan = plan_of(
        "rows: [{method: fake-student, label: Ours}]\n"
        "ablate:\n"
        "  design:\n"
        "    - {label: w/o eta, params: {eta: 0}}\n"
        "    - {params: {eta: 0.25, loss: mse}}\n"
    )
    assert labels(plan) == ["Ours", "w/o eta", "Ours (design=eta=0.25, loss=mse)"]
    assert varied(plan)[1] == {"design": "w/o eta"}


def test_an_ablation_back_to_the_centre_is_dropped_with_a_note(plan_of: PlanOf) -> None:
    plan = plan_of("rows: [{method: fake-student}]\nablate: {params.eta: [0.5, 0.1]}\n")
    assert labels(plan) == ["FS", "FS (eta=0.1)"]
    assert plan.notes == ("e.yaml:4:8: rows[0]: FS (eta=0.5) is FS again; dropped",)
    assert varied(plan) == [{"params.eta": 0.5}, {"params.eta": 0.1}]  # curves and claims find it


def test_different_runs_of_one_name_are_noted(plan_of: PlanOf) -> None:
    plan = plan_of("rows: [{method: fake-student}, {method: fake-student, params: {eta: 0.1}}]\n")
    assert plan.notes == ("several different runs are called FS (nfe 4); give each row a label",)


def test_exclude_knows_the_default_number_of_evaluations(plan_of: PlanOf) -> None:
    plan = plan_of("rows: [{method: fake-student}, {method: fake-student, nfe: 2}]\n"
                   "exclude: [{nfe: 4}]\n")  # fmt: skip
    assert [cell.nfe for cell in plan.cells] == [2]


def test_rows_of_one_run_under_two_labels_stay(plan_of: PlanOf) -> None:
    plan = plan_of("rows: [{method: fake-student, label: A}, {method: fake-student, label: B}]\n")
    assert labels(plan) == ["A", "B"]
    assert len({cell.train for cell in plan.cells}) == 1
    assert plan.notes == ("B and A are the same run; it is done once",)


def test_exclude_matches_fields_tags_params_paths_and_seeds(plan_of: PlanOf) -> None:
    text = (
        "rows:\n"
        "  - {method: fake-student, tags: {kind: x}, nfe: [1, 2]}\n"
        "  - {method: fake-student, params: {eta: 0.1}, train: {updates: 3}, nfe: [1, 2]}\n"
        "seeds: [0, 1]\n"
    )

    def left(rule: str) -> list[tuple[int, int, int]]:
        plan = plan_of(f"{text}exclude: [{rule}]\n")
        return [(cell.row, cell.nfe, cell.seed) for cell in plan.cells]

    assert len(plan_of(text).cells) == 8
    assert {nfe for _, nfe, _ in left("{nfe: 2}")} == {1}
    assert len(left("{kind: x}")) == 4
    assert len(left("{eta: 0.1, nfe: [1, 2]}")) == 4
    assert len(left("{train.updates: 3, nfe: 1}")) == 6
    assert left("{kind: x, seed: 1}").count((0, 1, 1)) == 0
    assert len(left("{kind: x, seed: 1}")) == 6


def test_exclude_comes_before_what_a_method_supports(plan_of: PlanOf) -> None:
    plan = plan_of(
        "grid: {method: [fake-student, fake-teacher], nfe: [4, 8]}\n"
        "exclude: [{method: fake-student, nfe: 8}]\n"
    )
    assert [(cell.method, cell.nfe) for cell in plan.cells] == [
        ("fake-student", 4), ("fake-teacher", 4), ("fake-teacher", 8),
    ]  # fmt: skip


def test_an_exclusion_of_nothing_is_noted(plan_of: PlanOf) -> None:
    plan = plan_of("rows: [{method: fake-student}]\nexclude: [{nfe: 3}]\n")
    assert plan.notes == ("e.yaml:5:11: exclude[0]: excludes nothing",)


def test_include_stands_outside_the_grid(plan_of: PlanOf) -> None:
    plan = plan_of(
        "rows: [{method: fake-student}]\ngrid: {nfe: [1, 2]}\n"
        "include: [{method: fake-teacher, nfe: 25}]\n"
    )
    assert [(cell.method, cell.nfe) for cell in plan.cells] == [
        ("fake-student", 1), ("fake-student", 2), ("fake-teacher", 25),
    ]  # fmt: skip


def test_the_order_of_cells_is_the_order_of_the_file(plan_of: PlanOf) -> None:
    plan = plan_of("rows: [{method: fake-student}, {method: fake-teacher}]\nseeds: [2, 0]\n")
    assert [(cell.row, cell.seed) for cell in plan.cells] == [(0, 2), (0, 0), (1, 2), (1, 0)]


@pytest.mark.parametrize(
    ("only", "left"),
    [
        ("method=fake-student", ["A", "B two"]),
        ("A", ["A"]),
        ("B*", ["B two"]),
        ("B?two", ["B two"]),
        ("label=A,Fake*", ["A", "Fake teacher"]),
        ("method=fake-* kind=x", ["A"]),
        ("eta=0.1", ["B two"]),
        ("nfe=4 seed=0", ["A", "B two", "Fake teacher"]),
    ],
)
def test_only(plan_of: PlanOf, only: str, left: list[str]) -> None:
    text = (
        "rows:\n"
        "  - {method: fake-student, label: A, tags: {kind: x}}\n"
        "  - {method: fake-student, label: B two, params: {eta: 0.1}}\n"
        "  - {method: fake-teacher}\n"
    )
    plan = plan_of(text, only=only)
    assert labels(plan) == left
    needed = {key for cell in plan.cells for key in (cell.train, cell.sample)}
    assert set(plan.stages) == needed


@pytest.mark.parametrize(
    ("only", "line"),
    [
        ("method=nobody", "--only method=nobody: selects no row; labels: FS"),
        ("method=", "--only method=: 'method=' is not field=value[,value]"),
    ],
)
def test_only_that_selects_nothing(plan_of: PlanOf, only: str, line: str) -> None:
    with pytest.raises(BadInput) as caught:
        plan_of("rows: [{method: fake-student}]\n", only=only)
    assert caught.value.line == line


def test_settings_by_method_lie_between_base_and_row(plan_of: PlanOf) -> None:
    plan = plan_of(
        "for_method:\n"
        "  fake-student: {params: {eta: 0.1, steps: 8}, nfe: [8, 1], train: {updates: 7}}\n"
        "rows:\n  - {method: fake-student, params: {eta: 0.2}}\n  - {method: fake-teacher}\n"
        "include: [{method: fake-student, nfe: 2}]\n"
    )
    assert [(cell.method, cell.nfe) for cell in plan.cells] == [
        ("fake-student", 8), ("fake-student", 1), ("fake-teacher", 4), ("fake-student", 2)
    ]  # fmt: skip
    first, last = (plan.stages[plan.cells[i].train].spec for i in (0, -1))
    assert first["method"]["params"] == {**last["method"]["params"], "eta": 0.2}
    assert last["method"]["params"]["eta"] == 0.1
    assert last["train"]["updates"] == 7


def test_settings_of_unknown_and_unused_methods(plan_of: PlanOf) -> None:
    with pytest.raises(BadInput) as caught:
        plan_of("for_method: {fake-studnet: {nfe: 1}}\nrows: [{method: fake-student}]\n")
    assert "e.yaml:4:14: for_method.fake-studnet: unknown method 'fake-studnet'" in str(
        caught.value
    )
    assert "Did you mean 'fake-student'?" in str(caught.value)
    with pytest.raises(BadInput, match=r"e.yaml:4:29: .*for_method cannot change the method"):
        plan_of("for_method: {fake-student: {method: fake-real}}\nrows: [{method: fake-student}]\n")
    plan = plan_of("for_method: {fake-real: {nfe: 1}}\nrows: [{method: fake-student}]\n")
    assert plan.notes == ("e.yaml:4:14: for_method.fake-real: no row uses method fake-real",)
