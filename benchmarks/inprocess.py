"""Stages run one after the other in this process: no start-up, so that many runs take seconds."""

from __future__ import annotations

from distillbench.plan.stage import Stage
from distillbench.run.executor import Result
from distillbench.run.worker import run_stage
from distillbench.store.layout import Store

__all__ = ["InProcess"]


class InProcess:
    """An executor that runs one stage at a time in this process."""

    capacity = widest = 1
    room = "this process"

    def __init__(self, store: Store, run: str) -> None:
        self._store, self._run = store, run
        self._waiting: list[tuple[Stage, int]] = []

    @property
    def free(self) -> int:
        """One slot, unless a stage waits."""
        return 1 - len(self._waiting)

    def submit(self, stage: Stage, *, attempt: int) -> None:
        """Keep the stage for `poll`."""
        self._waiting.append((stage, attempt))

    def poll(self, timeout: float) -> list[Result]:
        """Run what waits."""
        taken, self._waiting = self._waiting, []
        return [
            run_stage(stage, store_root=self._store.root, run=self._run, attempt=attempt)
            for stage, attempt in taken
        ]

    def stop(self) -> None:
        """Nothing runs between two calls."""

    def kill(self, key: str) -> None:
        """Nothing runs between two calls."""

    def close(self) -> None:
        """Nothing is held."""
