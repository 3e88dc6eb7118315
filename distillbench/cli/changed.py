"""How the subcommands tell that other code made what is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distillbench.plan.changed import Changes

__all__ = ["changed_lines"]


HINT = "These results are used as they are; `run FILE --redo-changed` makes them anew"


def changed_lines(changes: Changes, *, redone: bool = False) -> list[str]:
    """What a plan or a run says of it; `redone` where the run makes them anew."""
    lines = changes.lines()
    return [*lines, HINT] if changes.causes and not redone else lines
