"""An attempt at a stage as the driver sees it: through the claim its process holds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from distillbench.run.stage import Stage
from distillbench.store.claim import Holder
from distillbench.store.layout import Store

__all__ = ["Attempt"]


class Attempt:
    """A stage that runs, watched through its claim."""

    def __init__(self, store: Store, stage: Stage, *, run: str) -> None:
        self.stage = stage
        self._run = run
        self._claim = store.claim_path(stage.kind, stage.key)
        self._moved: tuple[str, float] | None = None
        self._since = time.monotonic()

    @property
    def silent(self) -> float:
        """Seconds since the last event, by our own clock; 0 before the stage began."""
        return time.monotonic() - self._since if self._moved else 0.0

    def news(self) -> Mapping[str, Any] | None:
        """The newest progress event, None when there is none since the last call."""
        holder = Holder.read(self._claim)
        if holder is None or holder.run != self._run or (holder.token, holder.moved) == self._moved:
            return None
        self._moved = (holder.token, holder.moved)
        self._since = time.monotonic()
        return holder.progress
