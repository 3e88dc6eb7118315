"""Results that an older version of keys left in a store: readable, and of no use to a plan."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
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
    for path in _records(root, used):
        identity = _identity(path)
        if identity is not None and identity < version:
            found[identity] = found.get(identity, 0) + 1
    return dict(sorted(found.items()))


def _records(root: Path, used: Collection[str]) -> Iterator[Path]:
    """The spec.json of every finished stage that is not known."""
    for folder in root.iterdir() if root.is_dir() else ():
        for key in os.listdir(folder) if folder.is_dir() else ():
            path = folder / key / "spec.json"
            if key not in used and "." not in key and path.exists():
                yield path


def _identity(path: Path) -> int | None:
    try:
        return StoredStage.read(path).glance.identity
    except (ArtifactError, StorageError):
        return None
