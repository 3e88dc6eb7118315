"""Pictures of the tiny world for its prompts, where a row names them: `images: world-renders`.

Each prompt gets one picture that it allows; what it leaves open is drawn by chance. They are drawn
when they are wanted, into the cache folder; their identity is known without.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from distillbench.files.places import cache_root

__all__ = ["RENDERS", "rendered", "rendered_identity"]

RENDERS = "world-renders"
SEED = 91
DRAWINGS = 1
"""Raised where the same prompts get other pictures, so that keys change with them."""


def rendered_identity(prompts: Sequence[str]) -> str:
    """sha256 of all that decides the pictures. Raises BadInput for prompts of another world."""
    from distillbench.world.data import said_of

    said_of(prompts)
    text = "\n".join([f"{RENDERS} {DRAWINGS} {SEED}", *prompts])
    return hashlib.sha256(text.encode()).hexdigest()


def rendered(prompts: Sequence[str], *, draw: bool) -> tuple[Path, ...]:
    """One picture a prompt, in their order.

    Args:
        draw: those that are not there yet; else no more than their places is told.
    """
    folder = cache_root() / "renders" / rendered_identity(prompts)[:24]
    if draw and not folder.is_dir():
        _draw(prompts, folder)
    return tuple(folder / f"{i:05d}.png" for i in range(len(prompts)))


def _draw(prompts: Sequence[str], folder: Path) -> None:
    """All of them or none: the folder gets its name when they are there."""
    from PIL.Image import fromarray

    from distillbench.world.data import renders_of

    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=folder.parent))
    for i, image in enumerate(renders_of(prompts, seed=SEED)):
        fromarray(image).save(made / f"{i:05d}.png")
    try:
        made.rename(folder)
    except OSError:  # another process was first
        shutil.rmtree(made)
