"""Where files that the project does not ship are looked for: weights, prompt sets, images."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = [
    "Need", "cache_root", "data_root", "images_folder", "is_images_path", "package",
    "shipped_root", "size_text",
]  # fmt: skip


@dataclass(frozen=True)
class Need:
    """Something that a stage cannot do without, and that the project does not bring.

    Attributes:
        kind: what sort of thing it is.
        name: as experiments or package indices call it.
        problem: why it cannot be used as things are; "" when all is well.
        fix: where to get it, or the command or setting that fixes it.
        size: bytes to fetch, about; 0 where nobody knows.
        license: of what is to be fetched; "" where nobody knows.
    """

    kind: Literal["weights", "prompts", "images", "samples", "package", "device", "disk"]
    name: str
    problem: str = ""
    fix: str = ""
    size: int = 0
    license: str = ""

    @property
    def line(self) -> str:
        """All of it in one line."""
        size = f"about {size_text(self.size)}" if self.size else ""
        facts = ", ".join(part for part in (size, self.license) if part)
        parts = (self.problem or "there", facts if self.problem else "", self.fix)
        return f"{self.kind} {self.name}: " + "; ".join(part for part in parts if part)


def package(module: str, install: str) -> Need:
    """The need of a Python package, looked for without importing it.

    Args:
        module: its top-level module.
        install: the command that installs it.
    """
    there = importlib.util.find_spec(module) is not None
    return Need("package", module, *(("", "") if there else ("is not installed", install)))


def size_text(size: int) -> str:
    unit, scale = next((u, s) for u, s in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1))
                       if size >= s or s == 1)  # fmt: skip
    return f"{size / scale:.3g} {unit}"


def cache_root() -> Path:
    """`$DISTILLBENCH_CACHE`, by default `~/.cache/distillbench`."""
    named = os.environ.get("DISTILLBENCH_CACHE", "")
    return Path(named) if named else Path.home() / ".cache" / "distillbench"


def data_root() -> Path:
    """`$DISTILLBENCH_DATA`, else `~/.cache/distillbench`."""
    return Path(os.environ.get("DISTILLBENCH_DATA") or Path.home() / ".cache" / "distillbench")


def shipped_root() -> Path:
    """The folder of all weights that the project ships, one folder each."""
    return Path(__file__).parents[1] / "world" / "weights"


def images_folder(text: str) -> Path:
    """The folder of a `data.images` setting.

    A plain name such as "laion-aesthetic" is the folder `<data root>/images/<name>`; anything with
    a slash is a path, as are "." and "..".
    """
    if is_images_path(text):
        return Path(os.path.expanduser(text)).absolute()
    return data_root() / "images" / text


def is_images_path(text: str) -> bool:
    """Whether a `data.images` setting is a path and not the name of a set."""
    return "/" in text or text in (".", "..")
