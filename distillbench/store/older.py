"""Results that an older version of keys left in a store: readable, and of no use to a plan."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from distillbench.errors import ArtifactError, StorageError
from distillbench.specs.stored import StoredStage

__all__ = ["older_results"]


def older_results(root: Path, version: int, *, used: Collection[str] = ()) -> dict[int, int]:
    """Identity version before `version` -> how many finished stages under `root` have it.

    Args:
        used: keys known to be of this version, whose records need not be read.
    """
    found: dict[int, int] = {}
    for path in root.glob("*/*/spec.json"):
        key = path.parent.name
        if key in used or "." in key:
            continue
        identity = _identity(path)
        if identity is not None and identity < version:
            found[identity] = found.get(identity, 0) + 1
    return dict(sorted(found.items()))


def _identity(path: Path) -> int | None:
    try:
        return StoredStage.read(path).glance.identity
    except (ArtifactError, StorageError):
        return None
