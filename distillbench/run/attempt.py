"""An attempt at a stage as the driver sees it: through the lease its process holds."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from distillbench.plan.stage import Stage
from distillbench.store.layout import Store
from distillbench.store.lease import Holder, Lease

__all__ = ["Attempt"]

LOST_AFTER = 20.0
"""Seconds we wait for word of a process that is gone before we believe it."""
UNWATCHED_AFTER = 60.0
"""Seconds between two looks after which it is we who stood still: stopped (Ctrl-Z), or frozen."""


class Attempt:
    """A stage that runs, watched through its lease."""

    def __init__(self, store: Store, stage: Stage, *, run: str) -> None:
        self.stage = stage
        self._run = run
        self._lease = store.lease_path(stage.kind, stage.key)
        self._moved: tuple[str, float] | None = None
        self._since = self._looked = time.monotonic()
        self._gone: float | None = None
        self._reported = 0
        self.notes: Sequence[str] = ()

    @property
    def begun(self) -> bool:
        """Whether a process was seen at work on it."""
        return self._moved is not None

    @property
    def lost(self) -> bool:
        """Whether that process has been gone for a while, though nobody reported its end.

        A runner tells of deaths itself, but not of those it cannot see (a cut network).
        """
        if not self.begun or Lease.holder_of(self._lease) is not None:
            self._gone = None
            return False
        self._gone = self._gone or time.monotonic()
        return time.monotonic() - self._gone > LOST_AFTER

    @property
    def silent(self) -> float:
        """Seconds since the last event, by our own clock, in which it was watched.

        0 before the stage began.
        """
        return time.monotonic() - self._since if self._moved else 0.0

    def news(self) -> Mapping[str, Any] | None:
        """The newest progress event, None when there is none since the last call."""
        self._look()
        holder = Holder.read(self._lease)
        if holder is None or holder.run != self._run or (holder.token, holder.moved) == self._moved:
            return None
        self._moved = (holder.token, holder.moved)
        self._since = time.monotonic()
        self.notes = holder.notes
        return holder.progress

    def _look(self) -> None:
        """Time in which nobody looked is no silence: who was stopped with us could not speak."""
        now = time.monotonic()
        if now - self._looked > UNWATCHED_AFTER:
            self._since += now - self._looked
        self._looked = now

    def untold(self, notes: Sequence[str]) -> Sequence[str]:
        """Those of an attempt's notes that were not asked for before."""
        fresh = notes[self._reported :]
        self._reported += len(fresh)
        return fresh
