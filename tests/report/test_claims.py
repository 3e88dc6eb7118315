"""The language of claims, and which rows they mean."""

from __future__ import annotations

from typing import Any

import pytest

from distillbench.analysis.claims import Side, parse_claim, resolve
from distillbench.analysis.rows import rows_of


def test_the_plain_form() -> None:
    claim = parse_claim("tdm > dmd2 on hps at nfe=4, backbone=tiny-sd")
    assert (claim.left, claim.right) == (Side("tdm"), Side("dmd2"))
    assert (claim.operator, claim.factor, claim.metric) == (">", None, "hps")
    assert claim.where == {"nfe": "4", "backbone": "tiny-sd"}


def test_quotes_factors_and_conditions_of_one_side() -> None:
    claim = parse_claim('\'TDM (4 steps)\'[nfe=4, seed-tag="a b"]<=0.6*"on at" on fid')
    assert claim.left == Side("TDM (4 steps)", {"nfe": "4", "seed-tag": "a b"})
    assert (claim.operator, claim.factor, claim.right.name) == ("<=", 0.6, "on at")
    assert claim.metric == "fid"
    assert claim.where == {}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "expected a row label or a method name, found 'the end'"),
        ("tdm dmd2 on hps", "expected one of >, >=, <, <=, found 'dmd2'"),
        ("tdm > dmd2", "expected 'on METRIC', found 'the end'"),
        ("tdm > dmd2 hps", "expected 'on METRIC', found 'hps'"),
        ("tdm > dmd2 on", "expected a metric, found 'the end'"),
        ("tdm > dmd2 on hps at nfe", "expected '=' after 'nfe', found 'the end'"),
        ("tdm > dmd2 on hps at nfe=", "expected a value of nfe"),
        ("tdm > dmd2 on hps nfe=4", "does not end after the metric: 'nfe'"),
        ("tdm[nfe=4 > dmd2 on hps", "expected ']', found '>'"),
        ("tdm <= half * dmd2 on hps", "'half' before '*' is no number"),
        ("tdm > 'dmd2 on hps", 'cannot read "\'dmd2 on hps"'),
    ],
)
def test_what_is_wrong_and_what_is_allowed_is_said(text: str, what: str) -> None:
    with pytest.raises(ValueError, match="allowed: `A > B on METRIC") as error:
        parse_claim(text)
    assert what in str(error.value)


def rows(world: Any) -> Any:
    world.row("TDM", 30.0, 5.0, nfe=1)
    world.row("TDM", 30.0, 5.0, nfe=4)
    world.row("Teacher", 30.0, 5.0, nfe=25, method="teacher")
    return rows_of(world.plan)


def test_a_side_means_one_row(world: Any) -> None:
    found = rows(world)
    left, right = resolve(parse_claim("TDM > teacher[nfe=25] on hps at nfe=4"), found)
    assert (left.first.nfe, right.first.nfe) == (4, 25)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("TDM > Teacher on hps", r"'TDM' means 2 rows \(TDM nfe=1 backbone=sd; TDM nfe=4"),
        ("TDM[nfe=2] > Teacher on hps", "no row 'TDM' meets the conditions"),
        ("LCM > Teacher on hps", "no row is called 'LCM'; there are: TDM, Teacher"),
        ("TDM[steps=2] > Teacher on hps", "unknown field 'steps'; rows have: label"),
    ],
)
def test_a_side_that_means_none_or_several_is_refused(world: Any, text: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        resolve(parse_claim(text), rows(world))
