"""Where files that the project does not ship are looked for: weights, prompt sets, images."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["data_root", "images_folder"]


def data_root() -> Path:
    """`$DISTILLBENCH_DATA`, else `~/.cache/distillbench`."""
    return Path(os.environ.get("DISTILLBENCH_DATA") or Path.home() / ".cache" / "distillbench")


def images_folder(text: str) -> Path:
    """The folder of a `data.images` setting.

    A plain name such as "laion-aesthetic" is the folder `<data root>/images/<name>`; anything with
    a slash is a path.
    """
    return Path(text).expanduser().absolute() if "/" in text else data_root() / "images" / text
