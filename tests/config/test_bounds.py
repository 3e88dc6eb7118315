"""Grids are counted before they are built, and numbers are what they are written as."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import BaseModel, model_validator

from distillbench.analysis.check import checked_plan
from distillbench.experiment.load import load_experiment
from distillbench.plan.stage import Plan

Errors = Callable[..., list[str]]
PlanOf = Callable[..., Plan]
ROW = "rows: [{method: fake-student}]\n"


def numbers(count: int) -> str:
    return f"[{', '.join(map(str, range(1, count + 1)))}]"


@pytest.mark.parametrize(
    ("text", "cells", "place"),
    [
        (f"seeds: {numbers(25_000)}\n", "25,000", "e.yaml:5:1: seeds"),
        (f"grid: {{a: {numbers(200)}, b: {numbers(200)}}}\n", "40,000", "e.yaml:5:1: grid"),
        (f"grid: {{nfe: {numbers(300)}}}\nseeds: {numbers(100)}\n", "30,000", "e.yaml:5:1: grid"),
        (f"ablate: {{x: {numbers(25_000)}}}\n", "25,001", "e.yaml:5:1: ablate"),
        (f"grid: {{tags.a: {numbers(1000)}}}\nablate: {{nfe: [{numbers(30)}]}}\n", "31,000",
         "e.yaml:5:1: grid"),
    ],
)  # fmt: skip
def test_a_grid_that_is_too_large_is_not_built(
    errors_of: Errors, text: str, cells: str, place: str
) -> None:
    (line,) = errors_of(ROW + text)
    assert line == (
        f"{place}: the number of cells {cells} is over the limit of 20,000; cut it, or give "
        "--max-cells N (limits.cells) if it is meant"
    )


def test_the_count_is_that_of_the_cells(plan_of: PlanOf) -> None:
    text = (
        "rows: [{method: fake-student, params: {steps: 9}, nfe: [1, 2, 3]}, "
        "{method: fake-teacher}]\n"
        "zip: {tags.x: [1, 2], tags.y: [3, 4]}\nablate: {nfe: [5, [6, 7]]}\nseeds: [0, 1]\n"
        "include: [{method: fake-student, params: {steps: 9}, nfe: [1, 9], label: more}]\n"
    )
    # (2 x 3 + 2 x 3) + (2 x 1 + 2 x 3) + 2, twice
    plan = plan_of(text + "limits: {cells: 44}\n")
    assert len(plan.cells) == 44
    experiment = load_experiment(Path("e.yaml"), sets=["limits.cells=43"])
    with pytest.raises(Exception, match="number of cells 44 is over the limit of 43"):
        checked_plan(experiment)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("base: {sample: {n: 1000001}}", "e.yaml:2:17: base.sample.n"),
        ("base: {nfe: 1001}", "e.yaml:2:8: base.nfe"),
        ("base: {train: {batch_size: 100000}}", "e.yaml:2:16: base.train.batch_size"),
        ("base: {train: {accumulate: 100000}}", "e.yaml:2:16: base.train.accumulate"),
        ("reference: {nfe: 5000}", "e.yaml:2:13: reference.nfe"),
        ("base: {train: {updates: 1000000000000}}", "e.yaml:2:25: base.train.updates"),
        ("base: {train: {updates: 1e12}}", "e.yaml:2:25: base.train.updates"),
        ("threads: 4000", "e.yaml:2:1: threads"),
        ("base: {train: {lr_scale: 1e12}}", "e.yaml:2:26: base.train.lr_scale"),
        ("base: {guidance_scale: -1e12}", "e.yaml:2:24: base.guidance_scale"),
    ],
)
def test_numbers_have_limits(errors_of: Errors, text: str, place: str) -> None:
    head = f"name: t\n{text}\nbackbones: {{b: fake-points}}\n"
    assert errors_of("rows: [{method: fake-teacher}]\n", head=head)[0].startswith(f"{place}: ")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("base: {nfe: true}", "e.yaml:2:8: base.nfe"),
        ("base: {nfe: '4'}", "e.yaml:2:8: base.nfe"),
        ("base: {nfe: 4.0}", "e.yaml:2:8: base.nfe"),
        ("base: {nfe: [4, 2.5]}", "e.yaml:2:17: base.nfe[1]"),
        ("seeds: true", "e.yaml:2:1: seeds"),
        ("seeds: [0, '3']", "e.yaml:2:12: seeds[1]"),
        ("seeds: [1.0]", "e.yaml:2:9: seeds[0]"),
        ("base: {train: {updates: 1e3}}", "e.yaml:2:16: base.train.updates"),
        ("base: {train: {lr_scale: '2'}}", "e.yaml:2:16: base.train.lr_scale"),
        ("base: {train: {lr_scale: true}}", "e.yaml:2:16: base.train.lr_scale"),
        ("base: {guidance_scale: '2'}", "e.yaml:2:8: base.guidance_scale"),
        ("base: {params: {eta: '2'}}", "e.yaml:2:17: base.params.eta"),
        ("base: {params: {eta: true}}", "e.yaml:2:17: base.params.eta"),
        ("tables: [{name: x, per_category: 'yes'}]", "e.yaml:2:20: tables[0].per_category"),
        ("tables: [{name: x, per_category: 1}]", "e.yaml:2:20: tables[0].per_category"),
    ],
)
def test_nothing_is_taken_for_what_it_is_not(errors_of: Errors, text: str, place: str) -> None:
    head = f"name: t\n{text}\nbackbones: {{b: fake-points}}\n"
    (line,) = errors_of("rows: [{method: fake-student}]\n", head=head)
    assert line.startswith(f"{place}: input should be a valid ")


def test_a_whole_number_is_a_float_too(plan_of: PlanOf) -> None:
    assert plan_of(ROW + "for_method: {fake-student: {train: {lr_scale: 2}}}\n").cells


def test_lists_are_tuples_to_a_plugin_that_makes_its_own_of_them() -> None:
    from distillbench.files.explain import validated
    from distillbench.files.marks import MapNode, Problems

    class Config(BaseModel):
        betas: tuple[float, float] = (0.0, 1.0)

        @model_validator(mode="before")
        @classmethod
        def _same(cls, data: dict[str, object]) -> dict[str, object]:
            return {**data}

    problems = Problems()
    assert validated(Config, MapNode({"betas": [0, 0.5]}), problems, owner="it")
    assert not problems.lines
