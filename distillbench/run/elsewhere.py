"""Stages that another run on the same store works on: waited for, and taken when it dies."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from distillbench.plan.stage import Stage, lineage
from distillbench.store.layout import Store
from distillbench.store.lease import Holder

__all__ = ["Elsewhere"]

_LOOK_EVERY = 2.0


class Elsewhere:
    """The stages of a plan that others have taken."""

    def __init__(self, store: Store, done: Callable[[Stage], bool]) -> None:
        self._store, self._done = store, done
        self._look: dict[str, tuple[Stage, float]] = {}

    def __bool__(self) -> bool:
        return bool(self._look)

    def wait(self, stage: Stage) -> None:
        """Look at the stage again in a while."""
        self._look[stage.key] = (stage, time.monotonic() + _LOOK_EVERY)

    def holder(self, stage: Stage) -> Holder | None:
        """Who runs the stage, or another one that writes its checkpoints; the dead are cleared."""
        keys = dict.fromkeys((stage.key, lineage(stage)))
        holders = [self._store.free(stage.kind, key) for key in keys]
        return next((holder for holder in holders if holder is not None), None)

    def back(self) -> Iterator[Stage]:
        """Stages that nobody runs any more: done, or free to take."""
        now = time.monotonic()
        for stage in [stage for stage, when in self._look.values() if when < now]:
            if self._done(stage) or self.holder(stage) is None:
                del self._look[stage.key]
                yield stage
            else:
                self.wait(stage)
