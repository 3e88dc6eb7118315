"""Where files that the project does not ship are looked for: weights, prompt sets, images."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

__all__ = ["cache_root", "data_root", "folder_identity", "images_folder", "is_images_path"]


def cache_root() -> Path:
    """`$DISTILLBENCH_CACHE`, by default `~/.cache/distillbench`."""
    named = os.environ.get("DISTILLBENCH_CACHE", "")
    return Path(named) if named else Path.home() / ".cache" / "distillbench"


def data_root() -> Path:
    """`$DISTILLBENCH_DATA`, else `~/.cache/distillbench`."""
    return Path(os.environ.get("DISTILLBENCH_DATA") or Path.home() / ".cache" / "distillbench")


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


def folder_identity(folder: Path) -> str:
    """SHA-256 over the names, sizes and captions of a folder of training images.

    Image bytes are not read: a folder can hold millions, and planning answers at once.
    """
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()}\t{path.stat().st_size}\n".encode())
        if path.suffix in {".json", ".jsonl", ".txt"}:
            digest.update(path.read_bytes())
    return digest.hexdigest()
