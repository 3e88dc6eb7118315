"""What a run finds: which stages are finished, and which of them `--redo-changed` makes anew."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from distillbench.plan.changed import find_changes
from distillbench.plan.stage import Plan
from distillbench.store.layout import Store

__all__ = ["Surveyed", "to_redo"]


def to_redo(plan: Plan, seen: Surveyed) -> set[str]:
    """Keys of stages that other code made, or from another input than is stored now, and of all
    that stands on them.

    The input of a stage is another one where an earlier such run was interrupted.
    """
    found = set(find_changes(plan, seen.done, seen.store).causes)
    for key, stage in plan.stages.items():  # each after those it needs
        follows = found & set(stage.needs) and key in seen.done
        if follows or seen.store.is_outdated(stage.kind, key):
            found.add(key)
    return found


@dataclass(frozen=True)
class Surveyed:
    """A store as it is before a run: every byte of a plan's stages is compared once.

    Attributes:
        store: as it is at any time.
        done: keys of the stages that were done, in plan order.
    """

    store: Store
    done: Mapping[str, None]

    @staticmethod
    def of(plan: Plan, store: Store) -> Surveyed:
        """Look at every stage of a plan."""
        stages = plan.stages.items()
        return Surveyed(store, {key: None for key, s in stages if store.is_done(s.kind, key)})

    def without(self, keys: Collection[str]) -> Surveyed:
        """The same where some stages are not done yet."""
        return Surveyed(self.store, {key: None for key in self.done if key not in keys})

    @property
    def root(self) -> Path:
        """The folder of the store."""
        return self.store.root

    def is_done(self, kind: str, key: str) -> bool:
        """Whether the stage was done."""
        return key in self.done
