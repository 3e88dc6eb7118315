"""One selection language: the same condition means the same rows in all four places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from distillbench.analysis.claims import parse_claim, resolve
from distillbench.analysis.rows import chosen, rows_of
from distillbench.errors import BadInput
from distillbench.experiment.select import Fields, ambiguity, matches, parse_only, same, unknown
from distillbench.plan.stage import Plan

PlanOf = Callable[..., Plan]
ROWS = """\
rows:
  - {method: fake-student, label: A, tags: {kind: x}}
  - {method: fake-student, label: B two, params: {eta: 0.1, embed: true}, nfe: 2}
  - {method: fake-teacher, label: T, train: {batch_size: 8}, guidance_scale: 3}
metrics: [fake-spread]
"""
# A condition as YAML, as words of a claim and of --only, and the rows that it selects.
CONDITIONS = [
    ("method: fake-student", "method=fake-student", ["A", "B two"]),
    ("label: A", "label=A", ["A"]),
    ("title: FS", "title=FS", ["A", "B two"]),
    ("nfe: 2", "nfe=2", ["B two"]),
    ("nfe: 2.0", "nfe=2.0", ["B two"]),
    ("updates: 10", "updates=10", ["A", "B two"]),
    ("guidance_scale: 3", "guidance_scale=3", ["T"]),
    ("kind: x", "kind=x", ["A"]),
    ("eta: 0.1", "eta=0.1", ["B two"]),
    ("eta: 1e-1", "eta=1e-1", ["B two"]),
    ("eta: 0.5", "eta=0.5", ["A"]),  # nobody wrote it: the default
    ("params.eta: 0.5", "params.eta=0.5", ["A"]),
    ("loss: hu*", "loss=hu*", ["A", "B two"]),
    ("embed: true", "embed=true", ["B two"]),
    ("embed: false", "embed=false", ["A"]),
    ("train.batch_size: 8", "train.batch_size=8", ["T"]),
    ("train.batch_size: 32", "train.batch_size=32", ["A", "B two"]),
    ("sample.n: 16, nfe: 4", "sample.n=16 nfe=4", ["A", "T"]),
    ("backbone: b", "backbone=b", ["A", "B two", "T"]),
]
TRAINED_ALONE = {"updates: 10"}  # before rows are checked nobody knows what trains


@pytest.mark.parametrize(("written", "words", "left"), CONDITIONS)
def test_a_condition_means_the_same_in_all_places(
    plan_of: PlanOf, written: str, words: str, left: list[str]
) -> None:
    plan = plan_of(ROWS)
    where = {name: value for name, _, value in (w.partition("=") for w in words.split())}
    assert [r.name for r in chosen(rows_of(plan), where)] == left
    assert [c.name for c in plan_of(ROWS, only=words).cells] == left
    table = f"tables: [{{name: a, where: {{{written}}}}}]\n"
    assert plan_of(ROWS + table).cells == plan.cells  # planning checks it
    if written not in TRAINED_ALONE:
        kept = [c.name for c in plan.cells if c.name not in left]
        if kept:
            assert [c.name for c in plan_of(f"{ROWS}exclude: [{{{written}}}]\n").cells] == kept


def test_claims_speak_it_too(plan_of: PlanOf) -> None:
    rows = rows_of(plan_of(ROWS))

    def sides(text: str) -> list[str]:
        return [row.name for row in resolve(parse_claim(text), rows)]

    assert sides("fake-student[eta=0.5] > T on fake-spread") == ["A", "T"]
    assert sides("fake-student[embed=true] > fake-student[embed=false] on fake-spread") == [
        "B two", "A",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("exclude: [{steqs: 4}]\n", "e.yaml:9:12: exclude[0].steqs: unknown field 'steqs'"),
        ("tables: [{name: a, where: {steqs: 4}}]\n", "e.yaml:9:28: tables[0].where.steqs: unknown"),
        ("figures: [{name: a, where: {steqs: 4}}]\n", "e.yaml:9:29: figures[0].where.steqs: unk"),
        ('claims: ["A[steqs=4] > T on fake-spread"]\n', "e.yaml:9:10: claims[0]"),
    ],
)
def test_unknown_fields_are_refused_with_what_there_is(
    errors_of: Callable[..., list[str]], text: str, line: str
) -> None:
    (error,) = errors_of(ROWS + text)
    assert error.startswith(line)
    assert "kind" in error
    assert "Did you mean 'steps'?" in error


def test_a_field_that_hides_what_varies_is_refused() -> None:
    row = Fields({"guidance_scale": 1.0}, varied={"params.guidance_scale": 3.0})
    assert ambiguity([row], "guidance_scale").endswith("write 'params.guidance_scale'")
    assert ambiguity([row], "params.guidance_scale") == ""
    agreeing = Fields({"guidance_scale": 3.0}, varied={"params.guidance_scale": 3.0})
    assert ambiguity([agreeing], "guidance_scale") == ""


@pytest.mark.parametrize(
    ("ours", "wanted", "equal"),
    [
        (4, "4", True), (4, 4.0, True), (4.5, "4.5", True), (1e-4, "0.0001", True),
        (1, True, False), (True, "true", True), (True, 1, False), (False, False, True),
        (None, "none", True), (None, 0, False), ("a*b", "a*b", True), ("axb", "a*b", True),
        ("a.b", "axb", False), ("TDM [x]", "TDM [x]", True), ("TDM x", "TDM?x", True),
        (4, "*", False), ([999, 499], [999, 499], True),
    ],
)  # fmt: skip
def test_when_a_value_is_the_one_written(ours: Any, wanted: Any, equal: bool) -> None:
    assert same(ours, wanted) is equal


def test_the_order_of_meanings() -> None:
    row = Fields(
        {"nfe": 4},
        tags={"lr": "tag"},
        varied={"params.eta": 2, "variant": "w/o"},
        settings={"params.eta": 2, "params.lr": 1e-4, "train.lr_scale": 1.0},
    )
    names = ["nfe", "lr", "params.lr", "eta", "variant", "train.lr_scale", "nothing"]
    assert [row.get(n) for n in names] == [4, "tag", 1e-4, 2, "w/o", 1.0, None]
    assert matches(row, [("eta", [1, 2]), ("nfe", 4)])
    assert unknown([row], ["nothing"]).startswith("unknown field 'nothing'; rows have: nfe, lr")
    assert parse_only('label="TDM, K = 1",LCM nfe=4') == [
        ("label", ["TDM, K = 1", "LCM"]), ("nfe", ["4"]),
    ]  # fmt: skip
    assert parse_only('"DMD2 without GAN" nfe=4')[0] == ("label", ["DMD2 without GAN"])
    assert parse_only('"K = 1"') == [("label", ["K = 1"])]
    with pytest.raises(BadInput, match="a double quote does not close"):
        parse_only('label="TDM')
    assert parse_only("TDM* nfe=1,2") == [("label", ["TDM*"]), ("nfe", ["1", "2"])]
