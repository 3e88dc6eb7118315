"""What became of a stage, in one word and in one line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distillbench.store.layout import Store

__all__ = ["State", "state_of"]


@dataclass(frozen=True)
class State:
    """What became of a stage.

    Attributes:
        word: done | failed | running | unfinished.
        detail: where it runs and how far it is, or the first line of why it failed.
    """

    word: str
    detail: str = ""

    @property
    def line(self) -> str:
        """Both."""
        return f"{self.word}: {self.detail}" if self.detail else self.word


def state_of(store: Store, kind: str, key: str) -> State:
    """Read a stage's state from the store."""
    if store.is_done(kind, key):
        return State("done")
    holder = store.holder(kind, key)
    if holder is not None:
        steps = holder.progress.get("step"), holder.progress.get("steps")
        far = f", {steps[0]}/{steps[1]}" if None not in steps else ""
        return State("running", f"{holder.name}{far}")
    problem = store.problem(kind, key)
    return State("failed", problem.splitlines()[0]) if problem else State("unfinished")
