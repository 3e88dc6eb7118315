"""Stages of a store that no experiment refers to.

A stage is referred to when its key stands in the plan of an experiment, or when a stage that is
referred to was made from it. Plans are read as text, so that those of other versions count too.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from distillbench.errors import ArtifactError, BadInput
from distillbench.files.io import remove, storage_guard
from distillbench.store.layout import KINDS, Store
from distillbench.store.lease import Holder, Lease
from distillbench.store.record import Done

__all__ = ["Unused", "keys_in_plans", "live_holders", "remove_stage", "unused"]


@dataclass(frozen=True)
class Unused:
    """A stage that nothing refers to.

    Attributes:
        paths: everything of it: results, unfinished output, checkpoints, records of failure.
        size: bytes of all these.
        newest: when the last of its files was written, in seconds since the epoch.
    """

    kind: str
    key: str
    paths: tuple[Path, ...]
    size: int
    newest: float


def keys_in_plans(results: Path) -> dict[Path, set[str]]:
    """The words of every experiment's plan.json in a results folder, keys among them.

    Raises:
        BadInput: a plan cannot be read, so that what it refers to is unknown.
    """
    found = {}
    for path in sorted(results.glob("*/plan.json")):
        try:
            text = path.read_text(encoding="utf-8")
            json.loads(text)
        except (OSError, ValueError) as error:
            hint = "Make it anew with `distillbench table FILE`, or delete it"
            raise BadInput(f"{path}: cannot be read, so what it uses is unknown", hint=hint) from (
                error
            )
        found[path] = set(re.findall(r"\w+", text))
    return found


def unused(store: Store, referred: Iterable[str]) -> list[Unused]:
    """Stages that neither are referred to nor led to one that is; what was made from others first.

    Stages that a live process holds are left out, and so is what lies beside a stage in use.
    """
    used = _with_inputs(store, referred)
    return [
        _measured(kind, key, paths)
        for kind in reversed(KINDS)
        for key, paths in _by_key(store.root / kind).items()
        if key not in used and store.holder(kind, key) is None
    ]


def live_holders(store: Store) -> list[tuple[str, Holder]]:
    """Stages that run now, with who runs them."""
    found = []
    for path in sorted(store.root.glob("*/*.claim")):
        key = path.name.removesuffix(".claim")
        if holder := store.holder(path.parent.name, key):
            found.append((f"{path.parent.name} {key}", holder))
    return found


def remove_stage(store: Store, stage: Unused) -> bool:
    """Remove all of a stage; False when another process took it meanwhile.

    Each folder is renamed first: what is half removed has no name that anything looks for, and a
    later run sweeps it away.

    Raises:
        StorageError: it cannot be removed.
    """
    lease = Lease.take(store.lease_path(stage.kind, stage.key))
    if lease is None:
        return False
    try:
        for path in stage.paths:
            with storage_guard(path):
                if path.exists() and path != lease.path:
                    aside = path.with_name(f".{path.name}.removed")
                    remove(aside)
                    os.rename(path, aside)
                    remove(aside)
    finally:
        lease.release()
    store.log("removed", stage.kind, stage.key)
    return True


def _with_inputs(store: Store, keys: Iterable[str]) -> set[str]:
    """The keys, and those of all that they were made from."""
    used: set[str] = set()
    waiting = list(keys)
    while waiting:
        key = waiting.pop()
        if key not in used:
            used.add(key)
            waiting += _inputs(store, key)
    return used


def _inputs(store: Store, key: str) -> Iterator[str]:
    for kind in KINDS:
        folder = store.path(kind, key)
        if not folder.is_dir():
            continue
        try:
            yield from (name.partition("/")[2] for name in Done.read(folder).inputs)
        except ArtifactError:  # altered: whoever makes it anew finds what its plan names
            continue


def _by_key(folder: Path) -> dict[str, tuple[Path, ...]]:
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if key := path.name.partition(".")[0]:
            found.setdefault(key, []).append(path)
    return {key: tuple(paths) for key, paths in found.items()}


def _measured(kind: str, key: str, paths: tuple[Path, ...]) -> Unused:
    files = [f for p in paths for f in ([p] if not p.is_dir() else p.rglob("*")) if f.is_file()]
    stats = [file.stat() for file in files]
    newest = max((stat.st_mtime for stat in stats), default=0.0)
    return Unused(kind, key, paths, sum(stat.st_size for stat in stats), newest)
