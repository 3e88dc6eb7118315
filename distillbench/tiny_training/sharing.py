"""Parts that several teachers have, stored once: a link to the other teacher's folder."""

from __future__ import annotations

import shutil
from pathlib import Path

from distillbench.world.weights import hash_files

__all__ = ["share"]


def share(root: Path, name: str) -> dict[str, str]:
    """Replace each part of a model that another model of `root` has too by a link to it.

    A part is the folder of a network; all its files are the same, byte for byte. What is loaded,
    the files that the card lists and the model's identity stay what they are.

    Returns:
        Part -> the link's target, relative to the model's folder.
    """
    shared: dict[str, str] = {}
    for part in sorted(_parts(root / name)):
        files = hash_files(part)
        for other in sorted(root.glob(f"*/{part.name}")):
            if other.parent.name != name and not other.is_symlink() and hash_files(other) == files:
                shared[part.name] = f"../{other.parent.name}/{other.name}"
                break
    for part_name, target in shared.items():
        shutil.rmtree(root / name / part_name)
        (root / name / part_name).symlink_to(target, target_is_directory=True)
    return shared


def _parts(folder: Path) -> list[Path]:
    """Its networks that are no links, nor what another model's link leads to."""
    linked = {p.resolve() for p in folder.parent.glob("*/*") if p.is_symlink()}
    found = (path.parent for path in folder.glob("*/*.safetensors"))
    return [p for p in found if not p.is_symlink() and p.resolve() not in linked]
