"""Exit code 0 means that every planned stage is on the disk as it was committed."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import pytest

from distillbench.errors import StageFailed
from distillbench.plan.stage import Plan, Stage
from distillbench.run.driver import execute
from distillbench.run.executor import Result
from distillbench.run.options import Outcome, RunOptions
from distillbench.run.progress import ProgressLog
from distillbench.run.worker import run_stage
from distillbench.store.layout import Store
from distillbench.store.lease import Holder, _place
from distillbench.store.record import Failure

Chain = Callable[..., list[Stage]]
MakePlan = Callable[..., Plan]


class Machine:
    """Runs one stage at a time in this process, and can lose what it runs on."""

    def __init__(self, store: Store, run: str) -> None:
        self.store, self.run = store, run
        self.slots, self.free_after, self.broken = 1, 10**9, False
        self.waiting: list[Stage] = []
        self.ran = 0

    @property
    def capacity(self) -> int:
        return self.slots

    @property
    def widest(self) -> int:
        return self.slots

    @property
    def room(self) -> str:
        return f"a machine of {self.slots}"

    @property
    def free(self) -> int:
        return self.slots - len(self.waiting)

    def submit(self, stage: Stage, *, attempt: int) -> None:
        self.waiting.append(stage)

    def poll(self, timeout: float) -> list[Result]:
        results = [
            run_stage(stage, store_root=self.store.root, run=self.run) for stage in self.waiting
        ]
        self.waiting = []
        self.ran += len(results)
        self.after()
        return results

    def after(self) -> None:
        """What happens to the machine now."""

    def stop(self) -> None: ...

    def kill(self, key: str) -> None:
        self.waiting = [stage for stage in self.waiting if stage.key != key]

    def close(self) -> None: ...


def run(
    store: Store, plan: Plan, after: Callable[[Machine], None] = lambda m: None, **options: Any
) -> tuple[Outcome, str]:
    shown = io.StringIO()

    def start(plan: Plan, store: Store, options: RunOptions, *, run: str) -> Any:
        machine = Machine(store, run)
        machine.after = lambda: after(machine)  # type: ignore[method-assign]
        return machine

    progress = ProgressLog(store.root.parent / "exp" / "log.txt", stream=shown)
    asked = RunOptions(**options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distillbench.run.driver.open_executor", start)
        return execute(plan, store, asked, progress=progress), shown.getvalue()


def test_lost_room_is_waited_for_and_then_a_failure_of_all_that_is_left(
    store: Store, make_chain: Chain, make_plan: MakePlan
) -> None:
    plan = make_plan(make_chain("a"), make_chain("b", seed=1))

    def lose(machine: Machine) -> None:
        machine.slots = 0 if machine.ran == 2 else machine.slots

    outcome, shown = run(store, plan, lose, room_wait=0.3)
    assert len(outcome.ran) == 2
    assert outcome.exit_code == 1
    assert {*outcome.ran, *outcome.failed, *outcome.blocked} == set(plan.stages)
    text = "4 stage(s) left, the widest of the next needs 1 slot(s) on one machine; there are 0"
    assert f"wait   {text} (a machine of 0); waiting 0 s for more" in shown
    assert all(text in error for error in outcome.failed.values())
    again, _ = run(store, plan)
    assert (again.exit_code, len(again.cached), len(again.ran)) == (0, 2, 4)


def test_room_that_comes_back_in_time_is_used(
    store: Store, make_chain: Chain, make_plan: MakePlan
) -> None:
    plan = make_plan(make_chain("a"))
    polls = []

    def flicker(machine: Machine) -> None:
        polls.append(machine.ran)
        machine.slots = 0 if machine.ran == 1 and len(polls) < 4 else 1

    outcome, shown = run(store, plan, flicker, room_wait=60.0)
    assert (outcome.exit_code, sorted(outcome.ran)) == (0, sorted(plan.stages))
    assert shown.count("wait   2 stage(s) left") == 1


def test_a_runner_that_is_lost_ends_the_run_with_its_reason(
    store: Store, make_chain: Chain, make_plan: MakePlan
) -> None:
    plan = make_plan(make_chain("a"), make_chain("b", seed=1))

    def break_down(machine: Machine) -> None:
        raise StageFailed("the cluster is gone")

    outcome, shown = run(store, plan, break_down)
    assert outcome.exit_code == 1
    assert "FAILED train  a train: the cluster is gone" in shown
    assert {*outcome.failed, *outcome.blocked} == set(plan.stages) - set(outcome.ran)


def test_a_stage_damaged_while_the_run_goes_on_is_not_done(
    store: Store, make_chain: Chain, make_plan: MakePlan
) -> None:
    stages = make_chain("a")

    def harm(machine: Machine) -> None:
        if machine.ran == 3:
            (store.path("sample", stages[1].key) / "samples.txt").write_text("other")

    outcome, shown = run(store, make_plan(stages), harm)
    assert outcome.exit_code == 1
    assert "samples.txt: truncated or altered" in outcome.failed[stages[1].key]
    assert stages[1].key not in outcome.ran
    assert "FAILED sample a sample: not done at the end of the run" in shown


def test_what_was_made_from_another_input_is_redone_with_it(
    store: Store, make_chain: Chain, make_plan: MakePlan
) -> None:
    """A training redone elsewhere gives other bits: what was made of the old ones goes too."""
    stages = make_chain("a")
    plan = make_plan(stages)
    run(store, plan)
    scores = store.path("score", stages[2].key) / "scores.jsonl"
    before = scores.read_text()
    student = store.path("train", stages[0].key) / "student.txt"
    student.write_text("0" * len(student.read_text()))
    changed = replace(stages[0], spec={**stages[0].spec, "seed": 99})  # the same key, other bits
    other = Plan("exp", {s.key: s for s in (changed, *stages[1:])}, ())
    outcome, shown = run(store, other, retry_failed=True)
    assert (outcome.exit_code, sorted(outcome.ran)) == (0, sorted(plan.stages))
    assert f"made from another train/{stages[0].key}" in shown
    assert f"made from another sample/{stages[1].key}" in shown
    assert scores.read_text() != before
    kept = sorted(path.name for path in store.root.glob("*/*.bad-1"))
    assert kept == sorted(f"{stage.key}.bad-1" for stage in stages)
    assert run(store, other)[0].exit_code == 0


def test_a_failure_of_this_run_is_not_called_one_of_an_earlier_run(
    store: Store, make_chain: Chain, make_plan: MakePlan
) -> None:
    stages = make_chain("bad", fault="raise")
    outcome, shown = run(store, make_plan(stages))
    assert outcome.exit_code == 1
    assert "earlier run" not in shown
    assert "earlier run" not in store.reason("train", stages[0].key)
    _, shown = run(store, make_plan(stages))
    assert "in an earlier run" in shown


def test_what_a_stage_had_to_tell_is_shown_and_logged(
    store: Store, make_chain: Chain, make_plan: MakePlan
) -> None:
    stages = make_chain("a")
    folder = store.checkpoints("train", stages[0].key)
    (folder / "step-00000002").mkdir(parents=True)
    (folder / "attempts.jsonl").write_text('{"attempt": 1}\n')  # no digest of itself
    outcome, shown = run(store, make_plan(stages))
    assert outcome.exit_code == 0
    assert shown.count("note   a train: ") == 1
    assert "attempts.jsonl: 1 line(s) missing or altered" in shown
    assert "attempts.jsonl" in (store.path("train", stages[0].key) / "log.txt").read_text()


def test_a_blocked_stage_is_no_success() -> None:
    assert Outcome(blocked=["x"]).exit_code == 1
    assert Outcome().exit_code == 0


def test_a_failure_beside_a_finished_stage_means_nothing(
    store: Store, make_chain: Chain, make_plan: MakePlan
) -> None:
    plan = make_plan(make_chain("a"))
    run(store, plan)
    for key, stage in plan.stages.items():
        store.fail(stage.kind, key, Failure(error="recorded by a run that was late"))
    assert run(store, plan)[0].exit_code == 0


def test_a_silent_death_is_noticed_by_its_lease(
    store: Store, make_chain: Chain, make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runner never reports the first attempt; its lease names a process that is gone."""
    monkeypatch.setattr("distillbench.run.attempt.LOST_AFTER", 0.2)
    stages = make_chain("a")
    lease = store.lease_path("train", stages[0].key)

    class Mute(Machine):
        def poll(self, timeout: float) -> list[Result]:
            if self.ran == 0 and self.waiting:
                self.ran = 1
                dead = Holder("t", _place(), 999999999, 1.0, run=self.run)
                lease.write_text(json.dumps(asdict(dead)))
                return []
            if lease.exists():
                return []
            return super().poll(timeout)

    shown = io.StringIO()
    progress = ProgressLog(store.root.parent / "exp" / "log.txt", stream=shown)
    monkeypatch.setattr(
        "distillbench.run.driver.open_executor",
        lambda plan, store, options, *, run: Mute(store, run),
    )
    outcome = execute(make_plan(stages), store, RunOptions(), progress=progress)
    assert outcome.exit_code == 0
    assert "its process is gone; trying again" in shown.getvalue()
