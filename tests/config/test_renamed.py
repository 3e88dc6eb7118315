"""A former spelling is refused by naming the present one, wherever it is written."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from distillbench.errors import BadInput

Errors = Callable[..., list[str]]
PROFILE = "profiles: {tiny: {base: {train: {steps: 5}}}}\n"
ROW = "rows: [{label: A, method: fake-student}, {label: T, method: fake-teacher}]\n"
SPREAD = "metrics: [fake-spread]\n"
UPDATES = "is called 'updates' now"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("rows: [{train: {steps: 5}}]\n", f"e.yaml:4:17: rows[0].train.steps: {UPDATES}"),
        ("for_method: {fake-student: {train: {steps: 5}}}\n" + ROW,
         f"e.yaml:4:37: for_method.fake-student.train.steps: {UPDATES}"),
        ("grid: {train.steps: [5, 6]}\n" + ROW, "e.yaml:4:22: "),
        ("ablate: {train.steps: [5]}\n" + ROW, "e.yaml:4:24: "),
        ("rows: [{updates: [2, 5]}]\n",
         "e.yaml:4:9: rows[0].updates: is called 'snapshots' now"),
        ("ablate: {updates: [5]}\n" + ROW, "e.yaml:4:20: "),
        ("rows: [{method: fake-student, params: {depth: 3}}]\n",
         "e.yaml:4:40: rows[0].params.depth: is called 'steps' now; K of the paper"),
        ("rows: [{method: fake-student, params: {loss: l2}}]\n",
         "e.yaml:4:40: rows[0].params.loss: is called 'mse' now; 'l2' was its former name"),
        ("grid: {params.depth: [3]}\nrows: [{method: fake-student}]\n", "e.yaml:4:23: "),
        (PROFILE + ROW, f"e.yaml:4:34: profiles.tiny.base.train.steps: {UPDATES}"),
    ],
)  # fmt: skip
def test_in_a_file_and_a_profile(errors_of: Errors, text: str, line: str) -> None:
    found = errors_of(text)
    assert any(error.startswith(line) for error in found)
    assert all(" now" in error for error in found)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("base.train.steps=5", f"--set base.train.steps=5: base.train.steps: {UPDATES}"),
        ("rows.0.params.depth=5", "--set rows.0.params.depth=5: rows[0].params.depth: is called"),
    ],
)
def test_in_an_override(errors_of: Errors, override: str, line: str) -> None:
    (error,) = errors_of(ROW, sets=[override])
    assert error.startswith(line)


SELECTED = [
    ("train.steps", "5", "field 'train.steps' is called 'train.updates' now"),
    ("depth", "5", "field 'depth' is called 'steps' now; K of the paper"),
    ("params.depth", "5", "field 'params.depth' is called 'params.steps' now; K of the paper"),
    ("loss", "l2", "'loss': 'l2' is called 'mse' now"),
    ("params.loss", "l2", "'params.loss': 'l2' is called 'mse' now"),
]


@pytest.mark.parametrize(("name", "value", "said"), SELECTED)
@pytest.mark.parametrize(
    ("place", "mark"),
    [
        ("tables: [{name: a, where: {NAME: VALUE}}]\n", "e.yaml:6:28: tables[0].where.NAME: "),
        ("figures: [{name: a, where: {NAME: [VALUE]}}]\n", "e.yaml:6:29: figures[0].where.NAME: "),
        ("exclude: [{NAME: VALUE}]\n", "e.yaml:6:12: exclude[0].NAME: "),
        ("claims: ['A[NAME=VALUE] > T on fake-spread']\n", "e.yaml:6:10: claims[0]: claim "),
    ],
)
def test_in_a_selection(
    errors_of: Errors, place: str, mark: str, name: str, value: str, said: str
) -> None:
    text = place.replace("NAME", name).replace("VALUE", value)
    (error,) = errors_of(ROW + SPREAD + text)
    assert error.startswith(mark.replace("NAME", name))
    assert error.endswith(said)


@pytest.mark.parametrize(("name", "value", "said"), SELECTED)
def test_in_only(plan_of: Callable[..., object], name: str, value: str, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        plan_of(ROW, only=f"{name}={value}")
    assert caught.value.line == f"--only {name}={value}: {said}"


@pytest.mark.parametrize(
    ("text", "mark", "said"),
    [
        ("tables: [{name: a, columns: [label, NAME]}]\n", "e.yaml:6:37: tables[0].columns[1]: ",
         "metric or field"),
        ("tables: [{name: a, group_by: NAME}]\n", "e.yaml:6:20: tables[0].group_by: ", "field"),
        ("figures: [{name: a, kind: curve, x: NAME, y: fake-spread}]\n",
         "e.yaml:6:34: figures[0].x: ", "field"),
    ],
)  # fmt: skip
def test_in_a_column_and_an_axis(errors_of: Errors, text: str, mark: str, said: str) -> None:
    for name, now in (("train.steps", "train.updates"), ("params.depth", "params.steps")):
        (error,) = errors_of(ROW + SPREAD + text.replace("NAME", name))
        assert error.startswith(f"{mark}{said} '{name}' is called '{now}' now")


def test_a_name_that_still_means_something_is_no_former_spelling(
    plan_of: Callable[..., object],
) -> None:
    tagged = "rows: [{label: A, method: fake-student, tags: {depth: 5}}]\n" + SPREAD
    asked = "tables: [{name: a, columns: [depth], where: {depth: 5, updates: 10}}]\n"
    assert plan_of(tagged + asked) == plan_of(tagged)
