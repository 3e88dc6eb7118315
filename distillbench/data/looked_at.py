"""Whether files are pictures: each decoded once, and what was found remembered by its content."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from distillbench.data.pictures import open_picture
from distillbench.errors import BadInput
from distillbench.files.hashes import file_sha256, folder_book
from distillbench.files.places import cache_root

__all__ = ["damaged", "picture_sizes", "remembered"]

CHECK_VERSION = 1
"""Raised when a picture that passed may no longer do so."""
MANY = 500


def damaged(root: Path, files: Iterable[str]) -> list[str]:
    """One line for each file of a folder that is no picture, or not a whole one.

    Every picture is decoded once, as the header of a truncated file looks whole; what was found is
    remembered by the file's content.
    """
    files = list(dict.fromkeys(files))
    verdicts = remembered(root, files, _problem)
    return [f"{root / file}: {what}" for file, what in zip(files, verdicts) if what]


def picture_sizes(root: Path, files: Sequence[str]) -> list[str]:
    """WIDTHxHEIGHT of each picture as a viewer shows it, in pixels. For pictures without damage."""
    return remembered(root, files, _size, shelf="sizes")


def remembered(
    root: Path, files: Sequence[str], look: Callable[[Path], str], *, shelf: str = "images"
) -> list[str]:
    """What `look`, which decodes a file, says of each; asked once for each content.

    Args:
        shelf: where it is remembered; one for each `look`.
    """
    memory = _Memory(root, look, shelf)
    if len(files) - memory.known > MANY:
        print(f"decoding the pictures of {root} once", file=sys.stderr)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        verdicts = list(pool.map(memory.verdict, files))
    memory.save()
    return verdicts


class _Memory:
    """Verdicts on the pictures of a folder by their sha256, kept between processes."""

    def __init__(self, root: Path, look: Callable[[Path], str], shelf: str) -> None:
        self._root, self._book, self._look = root, folder_book(shelf, root), look
        self._file = cache_root() / "pictures" / f"{self._book}.json"
        self._before: dict[str, str] = {}
        self._now: dict[str, str] = {}
        with suppress(OSError, ValueError, KeyError, TypeError):
            read = json.loads(self._file.read_text(encoding="utf-8"))
            self._before = dict(read["verdicts"]) if read["version"] == CHECK_VERSION else {}

    @property
    def known(self) -> int:
        """Number of pictures looked at before."""
        return len(self._before)

    def verdict(self, file: str) -> str:
        """What is said of a file."""
        path = self._root / file
        try:
            regular = stat.S_ISREG(path.stat().st_mode)
            sha256 = file_sha256(path, book=self._book) if regular else ""
        except (OSError, ValueError):
            sha256 = ""
        if not sha256:
            return self._look(path)
        found = self._before.get(sha256)
        self._now[sha256] = self._look(path) if found is None else found
        return self._now[sha256]

    def save(self) -> None:
        """Write what is known by now."""
        if self._now == self._before:
            return
        with suppress(OSError):  # a read-only home only costs time
            self._file.parent.mkdir(parents=True, exist_ok=True)
            building = self._file.with_suffix(f".{os.getpid()}.tmp")
            text = json.dumps({"version": CHECK_VERSION, "verdicts": self._now})
            building.write_text(text, encoding="utf-8")
            building.replace(self._file)


def _size(path: Path) -> str:
    width, height = open_picture(path).size
    return f"{width}x{height}"


def _problem(path: Path) -> str:
    try:
        open_picture(path)
    except BadInput as error:
        return error.line.removeprefix(f"{path}: ")
    except MemoryError:
        return "too large for this machine's memory"
    return ""
