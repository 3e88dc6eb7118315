"""What the driver takes for silence of a stage that it watches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from distillbench.run import attempt as module
from distillbench.run.attempt import UNWATCHED_AFTER, Attempt
from distillbench.store.layout import Store
from distillbench.store.lease import Lease


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The driver's clock, to be moved by hand."""
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def watched(tmp_path: Path, make_chain: Any, clock: list[float]) -> Attempt:
    """An attempt that has been seen at work once."""
    stage = make_chain("a")[0]
    store = Store(tmp_path / "watched")
    path = store.lease_path(stage.kind, stage.key)
    path.parent.mkdir(parents=True)
    lease = Lease.take(path, run="mine")
    assert lease is not None
    lease.beat({"step": 1})
    attempt = Attempt(store, stage, run="mine")
    assert attempt.news() == {"step": 1}
    return attempt


def test_silence_is_counted_while_somebody_looks(watched: Attempt, clock: list[float]) -> None:
    for _ in range(10):
        clock[0] += UNWATCHED_AFTER / 2
        assert watched.news() is None
    assert watched.silent == pytest.approx(10 * UNWATCHED_AFTER / 2)


def test_time_in_which_the_driver_stood_still_is_no_silence(
    watched: Attempt, clock: list[float]
) -> None:
    clock[0] += 5.0
    assert watched.news() is None
    clock[0] += 3600.0  # the run was stopped (Ctrl-Z), its stages with it
    assert watched.news() is None
    assert watched.silent == pytest.approx(5.0)
