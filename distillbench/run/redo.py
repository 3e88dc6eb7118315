"""Which finished stages `--redo-changed` makes anew."""

from __future__ import annotations

from typing import Any

from distillbench.plan.changed import find_changes
from distillbench.plan.stage import Plan
from distillbench.store.layout import Store

__all__ = ["Without", "to_redo"]


def to_redo(plan: Plan, store: Store) -> set[str]:
    """Keys of stages that other code made, or from another input than is stored now, and of all
    that stands on them.

    The input of a stage is another one where an earlier such run was interrupted.
    """
    done = [key for key, stage in plan.stages.items() if store.is_done(stage.kind, key)]
    found = set(find_changes(plan, done, store).causes)
    for key, stage in plan.stages.items():  # each after those it needs
        follows = found & set(stage.needs) and store.is_done(stage.kind, key)
        if follows or store.is_outdated(stage.kind, key):
            found.add(key)
    return found


class Without:
    """A store in which some stages are not done yet."""

    def __init__(self, store: Store, keys: set[str]) -> None:
        self._store, self._keys = store, keys

    def is_done(self, kind: str, key: str) -> bool:
        """See `Store.is_done`."""
        return key not in self._keys and self._store.is_done(kind, key)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)
