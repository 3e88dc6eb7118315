"""Finished stages that are made anew: the old one stays until the new one is committed.

    <key>.redo     which one is to be replaced, by the time it was finished
    <key>.was-N    one that was replaced, kept while anything in the store was made from it

An old stage is found in its place until the very commit of the new one. Should a machine die
between the two renames of that, the next run puts the old one back.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from distillbench.errors import ArtifactError
from distillbench.files.io import read_json, write_json
from distillbench.store.record import DONE, Done

__all__ = ["aside", "ask", "awaited", "orphans", "superseded", "withdraw"]


def ask(folder: Path) -> None:
    """Have the finished stage in `folder` made anew. Raises ArtifactError when it has no marker."""
    write_json(_request(folder), {"finished": Done.read(folder).finished})


def awaited(folder: Path) -> bool:
    """Whether the stage in `folder` is one that was to be made anew, and not yet its successor."""
    return _is_asked(folder, folder)


def withdraw(folder: Path) -> None:
    """Forget the request."""
    _request(folder).unlink(missing_ok=True)


def aside(folder: Path, word: str) -> Path:
    """Rename a stage's folder to `<key>.<word>-N`, which nothing looks for."""
    taken = [p.name.rpartition("-")[2] for p in folder.parent.glob(f"{folder.name}.{word}-*")]
    number = 1 + max((int(n) for n in taken if n.isdigit()), default=0)
    moved = folder.with_name(f"{folder.name}.{word}-{number}")
    os.rename(folder, moved)
    return moved


def orphans(parent: Path) -> Iterator[tuple[Path, Path]]:
    """Folders that were moved aside for a successor that never came, and where they belong."""
    for moved in sorted(parent.glob("*.was-*")):
        folder = moved.with_name(moved.name.partition(".")[0])
        if not folder.exists() and _is_asked(folder, moved):
            yield moved, folder


def superseded(root: Path, moved: Path) -> bool:
    """Whether nothing in the store was made from the bytes of `moved` alone."""
    name = f"{moved.parent.name}/{moved.name.partition('.')[0]}"
    try:
        content = Done.read(moved).content
        if Done.read(root / name).content == content:
            return True
    except ArtifactError:
        return False
    for marker in root.glob(f"*/*/{DONE}"):
        try:
            made_from = Done.read(marker.parent).inputs.get(name)
        except ArtifactError:
            continue
        if made_from == content and "." not in marker.parent.name:
            return False
    return True


def _is_asked(folder: Path, there: Path) -> bool:
    """Whether what lies `there` is what is to be replaced in `folder`."""
    try:
        return bool(read_json(_request(folder))["finished"] == Done.read(there).finished)
    except (ArtifactError, KeyError, TypeError):
        return False


def _request(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.redo")
