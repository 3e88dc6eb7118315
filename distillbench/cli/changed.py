"""How the subcommands tell that other code made what is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distillbench.plan.changed import Changes
    from distillbench.plan.stage import Plan
    from distillbench.store.layout import Store

__all__ = ["changed_lines", "older_count", "older_lines"]


HINT = "These results are used as they are; `run FILE --redo-changed` makes them anew"


def changed_lines(changes: Changes, *, redone: bool = False) -> list[str]:
    """What a plan or a run says of it; `redone` where the run makes them anew."""
    lines = changes.lines()
    return [*lines, HINT] if changes.causes and not redone else lines


def older_count(plan: Plan, store: Store) -> int:
    """Finished stages of the store whose keys an older version made."""
    from distillbench.plan.identity import IDENTITY_VERSION
    from distillbench.store.older import older_results

    return sum(older_results(store.root, IDENTITY_VERSION, used=plan.stages).values())


def older_lines(plan: Plan, store: Store) -> list[str]:
    """One line where there are any."""
    count = older_count(plan, store)
    what = "their keys do not say all that decides them; `list runs` and `show` still read them"
    return [f"{count} stored stage(s) of an older version are not used: {what}"] if count else []
