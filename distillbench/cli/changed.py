"""How the subcommands tell that other code made what is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distillbench.plan.changed import Changes

__all__ = ["changed_lines"]


def changed_lines(changes: Changes) -> list[str]:
    """What a plan or a run says of it."""
    return changes.lines()
