"""A run among others: signals from outside, and other runs on the same store."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distillbench.plan.stage import Plan, Stage
from distillbench.run.options import Outcome
from distillbench.run.signals import Signals
from distillbench.store.layout import Store
from distillbench.store.lease import Lease

Chain = Callable[..., list[Stage]]
MakePlan = Callable[..., Plan]
Run = Callable[..., tuple[Outcome, str]]
Starts = Callable[[Store], Counter[str]]


@pytest.fixture
def run(run_plan: Run) -> Run:
    return run_plan


def test_an_interrupt_checkpoints_and_the_next_run_continues(
    store: Store, make_chain: Chain, make_plan: MakePlan, run: Run
) -> None:
    stages = make_chain("slow", steps=60, pause=0.05)
    plan = make_plan(stages)
    _signal_when(store, stages[0], signal.SIGINT)
    outcome, shown = run(store, plan)
    assert (outcome.interrupted, outcome.exit_code, outcome.failed) == (True, 130, {})
    assert "stopped after step" in shown
    saved = json.loads((store.checkpoints("train", stages[0].key) / "state.json").read_text())
    assert 0 < saved["step"] < 60
    again, _ = run(store, plan)
    assert again.exit_code == 0


def test_a_second_interrupt_does_not_wait(
    store: Store, make_chain: Chain, make_plan: MakePlan, run: Run
) -> None:
    stages = make_chain("hang", fault="hang")
    hanging = store.checkpoints("train", stages[0].key).with_name(f"{stages[0].key}-faults-child")
    _signal_when(store, stages[0], signal.SIGTERM, signal.SIGINT, after=hanging)
    outcome, shown = run(store, make_plan(stages))
    assert outcome.exit_code == 130
    assert "killed" in shown


def _signal_when(store: Store, stage: Stage, *numbers: int, after: Path | None = None) -> None:
    """Send signals to this process once the stage reported its first step and `after` exists."""

    def wait() -> None:
        while True:
            holder = store.holder(stage.kind, stage.key)
            begun = holder is not None and holder.progress.get("step", 0) >= 1
            if begun and (after is None or after.exists()):
                break
            time.sleep(0.02)
        for number in numbers:
            os.kill(os.getpid(), number)
            time.sleep(0.6)

    threading.Thread(target=wait, daemon=True).start()


def test_a_stage_of_another_run_is_waited_for(
    store: Store, make_chain: Chain, make_plan: MakePlan, run: Run, starts: Starts, released: Any
) -> None:
    stages = make_chain("row")
    lease = Lease.take(store.lease_path("train", stages[0].key), run="theirs")
    assert lease is not None
    plan = make_plan(stages)
    released(lease, store, plan, f"process {os.getpid()}")
    outcome, shown = run(store, plan)
    assert f"process {os.getpid()}" in shown
    assert outcome.exit_code == 0
    assert starts(store)[stages[0].key] == 1


def test_two_drivers_share_one_grid(
    store: Store, make_chain: Chain, make_plan: MakePlan, run: Run, starts: Starts
) -> None:
    plan = make_plan(*(make_chain(f"row{i}", seed=i, pause=0.02) for i in range(4)))
    outcomes: list[Outcome] = []
    threads = [
        threading.Thread(target=lambda: outcomes.append(run(store, plan)[0])) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [o.exit_code for o in outcomes] == [0, 0]
    assert sorted(outcomes[0].ran + outcomes[1].ran) == sorted(plan.stages)
    assert set(starts(store).values()) == {1}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_closed_terminal_asks_to_stop_like_a_scheduler_does(
    store: Store, make_chain: Chain, make_plan: MakePlan, run: Run, number: int
) -> None:
    stages = make_chain("slow", steps=60, pause=0.05)
    before = signal.signal(number, signal.SIG_DFL)  # nohup may have started these tests
    try:
        _signal_when(store, stages[0], number)
        outcome, shown = run(store, make_plan(stages))
    finally:
        signal.signal(number, before)
    assert (outcome.interrupted, outcome.exit_code) == (True, 130)
    assert "stopped after step" in shown


def test_under_nohup_a_closed_terminal_is_nothing() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        signals = Signals()
        with signals.counted():
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
        assert signals.count == 1
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
