"""Costs grow with the grid and not with its square: lines of our own code, counted, not timed."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import distillbench
from distillbench.files import hashes
from distillbench.plan.stage import Plan
from distillbench.plan.status import plan_status
from distillbench.run.driver import execute
from distillbench.run.progress import ProgressLog
from distillbench.run.worker import _identity
from distillbench.store.layout import Store

PlanOf = Callable[..., Plan]
OWN = str(Path(distillbench.__file__).parent)
SIZES = (6, 12, 18)


@pytest.fixture(autouse=True)
def _settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that were just written are remembered at their first reading, as all others are."""
    monkeypatch.setattr(hashes, "SETTLED_SECONDS", -1.0)


def steps(function: Callable[[], object]) -> int:
    """Lines of the engine that a call runs through; a comprehension's turns are lines too."""
    count = 0

    def local(frame: Any, event: str, arg: Any) -> Any:
        nonlocal count
        count += event == "line"
        return local

    def trace(frame: Any, event: str, arg: Any) -> Any:
        return local if frame.f_code.co_filename.startswith(OWN) else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


def assert_linear(made: Callable[[int], Callable[[], object]]) -> None:
    """Of three sizes in equal steps, the last step costs no more than the first."""
    for size in SIZES:  # what is done once a process
        made(size)()
    first, second, third = (steps(made(size)) for size in SIZES)
    assert second > first
    assert third - second <= 1.05 * (second - first)


def linked(size: int) -> str:
    values = [i / 100 for i in range(size)]
    return (
        f"rows:\n  - {{label: T, method: fake-tuned, grid: {{params.eta: {values}}}}}\n"
        f"  - {{label: S, method: fake-student, teacher: T, grid: {{params.eta: {values}}}}}\n"
    )


def grid(size: int) -> str:
    values = [i / 100 for i in range(size)]
    metrics = "metrics: [fake-spread]\nseeds: [0, 1]\n"
    return f"rows: [{{method: fake-student, grid: {{params.eta: {values}}}}}]\n{metrics}"


def chain(size: int) -> str:
    rows = [f"  - {{label: T{i}, method: fake-tuned, params: {{eta: {i / 100}}}%s}}\n" % (
        f", init: T{i - 1}" if i else "") for i in range(size)]  # fmt: skip
    return "rows:\n" + "".join(rows)


def stored(plan: Plan, root: Path) -> Store:
    """A store where all of it is committed."""
    store = Store(root)
    for stage in plan.stages.values():
        tmp = store.begin(stage.kind, stage.key)
        (tmp / "spec.json").write_text(json.dumps(_identity(stage)))
        store.commit(tmp, stage.kind, stage.key)
    return store


def test_rows_that_start_from_others(plan_of: PlanOf) -> None:
    assert_linear(lambda size: lambda: plan_of(linked(size)))


def test_rows_that_repeat_others(plan_of: PlanOf) -> None:
    once = "rows: [{method: fake-student}]\ngrid: {params.eta: [%s], label: [a]}\n"
    assert_linear(lambda size: lambda: plan_of(once % ", ".join(["0.5"] * size)))


def test_a_chain_of_rows(plan_of: PlanOf) -> None:
    """Each names all that it stands on, which is asked for once."""
    first, second, third = (plan_of(chain(size)) for size in SIZES)
    assert [len(plan.cells) for plan in (first, second, third)] == list(SIZES)
    assert_linear(lambda size: lambda: plan_of(chain(size)))


def test_the_status_of_a_plan_after_an_edit(plan_of: PlanOf, tmp_path: Path) -> None:
    def made(size: int) -> Callable[[], object]:
        folder = tmp_path / str(size)
        if not folder.exists():
            stored(plan_of(grid(size)), folder)
        edited = plan_of(grid(size), sets=["base.train.updates=20"])
        return lambda: plan_status(edited, Store(folder))

    assert_linear(made)
    states = {entry.state for entry in made(SIZES[0])().values()}  # type: ignore[attr-defined]
    assert states == {"stale"}


def test_a_run_where_all_is_cached(plan_of: PlanOf, tmp_path: Path) -> None:
    def made(size: int) -> Callable[[], object]:
        folder = tmp_path / str(size)
        plan = plan_of(grid(size))
        if not folder.exists():
            stored(plan, folder)
        quiet = ProgressLog(tmp_path / "log.txt", stream=io.StringIO())
        return lambda: execute(plan, Store(folder), progress=quiet)

    assert_linear(made)
