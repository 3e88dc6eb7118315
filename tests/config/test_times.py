"""Settings and times that the process of a teacher has not: one line each, at planning."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from distillbench.plan.stage import Plan

HEAD = """name: times
backbones: {flow: {use: gmm-flow}, vp: {use: gmm}}
base: {backbone: flow, nfe: 4, train: {updates: 5}, sample: {n: 16}}
"""
INTEGER = "pure noise of the flow model gmm-flow is at 1000"
# A row each, and what is said of it after "e.yaml:4:COLUMN: ".
CASES = {
    "integer ends": (
        "{method: tcd, params: {ends: integers}}",
        "rows[0].method: tcd: the times of backbone gmm-flow are reals; ends: integers has none of "
        "them; set ends: grid or reals",
    ),
    "real ends": (
        "{method: tcd, backbone: vp, params: {ends: reals}}",
        "rows[0].method: tcd: the times of backbone gmm are integers; ends: reals has none of "
        "them; set ends: grid or integers",
    ),
    "steps that do not divide": (
        "{method: lcm, backbone: vp, params: {solver_steps: 7}}",
        "rows[0].method: 7 solver steps do not divide 1000 times of backbone gmm; set solver_steps "
        "to a divisor of at most 1000",
    ),
    "too many steps": (
        "{method: tscd, params: {solver_steps: 2000}}",
        "rows[0].method: 2000 solver steps are more than the 1000 times of backbone gmm-flow; set "
        "solver_steps to a number of at most 1000",
    ),
    "horizon": (
        "{method: tdm, params: {horizon: 900}}",
        "rows[0].method: horizon is for integer times, and those of gmm-flow are real",
    ),
    "integer nodes": (
        "{method: lcm, sampler: {timesteps: [999, 749, 499, 249]}}",
        f"rows[0].sampler: sampling times from 999 are those of integer grids: {INTEGER}",
    ),
    "integer input time": (
        "{method: dmd2, params: {steps: 1, input_time: 999}, nfe: 1}",
        f"rows[0].nfe: sampling times from 999 are those of integer grids: {INTEGER}",
    ),
    "real nodes of integer times": (
        "{method: lcm, backbone: vp, sampler: {timesteps: [999, 749.5, 499, 249]}}",
        "rows[0].sampler: sampling time 749.5: the times of backbone gmm are the integers 0 to 999",
    ),
    "flow nodes of integer times": (
        "{method: teacher, backbone: vp, sampler: {timesteps: [1000, 750, 500, 250]}}",
        "rows[0].sampler: sampling time 1000: the times of backbone gmm are the integers 0 to 999",
    ),
    "above the noise": (
        "{method: tdm, sampler: {timesteps: [1000.5, 749, 499, 249]}}",
        "rows[0].sampler: sampling time 1000.5: the times of backbone gmm-flow are above 0, up to "
        "1000",
    ),
    "at the data": (
        "{method: teacher, sampler: {timesteps: [1000, 749, 499, 0]}}",
        "rows[0].sampler: sampling time 0: the times of backbone gmm-flow are above 0, up to 1000",
    ),
    "no number": (
        "{method: lcm, sampler: {timesteps: [1000, 749, x, 249]}}",
        "rows[0].sampler.timesteps[2]: 'x' is not a time, a finite number",
    ),
    "steps of the grid": (
        "{method: tcd, params: {solver_steps: 3}}",
        "base.nfe: tcd: with its solver grid 4 evaluations are not possible",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_is_one_line(errors_of: Callable[..., list[str]], case: str) -> None:
    row, expected = CASES[case]
    (line,) = errors_of(f"rows: [{row}]\n", head=HEAD)
    assert line.split(": ", 1)[1] == expected
    assert line.startswith("e.yaml:")


def test_all_are_said_at_once(errors_of: Callable[..., list[str]]) -> None:
    rows = [f"  - {row}\n" for row, _ in CASES.values() if "x, 249" not in row]
    assert len(errors_of("rows:\n" + "".join(rows), head=HEAD)) == len(rows)


def test_real_times_of_a_flow_teacher_are_planned(plan_of: Callable[..., Plan]) -> None:
    """In the recipe a whole time is an integer, however it is written."""
    rows = (
        "{method: lcm, params: {solver_steps: 7}, nfe: 2}",
        "{label: Own, method: teacher, sampler: {timesteps: [1000.0, 749.5, 499, 20]}}",
        "{label: S+, method: tcd, params: {tcf: S+, ends: reals}, nfe: 1}",
    )
    plan = plan_of(f"rows: [{', '.join(rows)}]\n", head=HEAD)
    recipes = [s.spec["sampler"]["timesteps"] for s in plan.stages.values() if s.kind == "sample"]
    assert recipes == [[1000, 1000 * 4 / 7], [1000, 749.5, 499, 20], [1000]]
    assert [type(t) for t in recipes[1]] == [int, float, int, int]
