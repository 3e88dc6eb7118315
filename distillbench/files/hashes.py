"""The sha256 of files, read once and remembered by what the file system says of them (no torch).

A file is known by (device, inode, size, mtime, ctime): the kernel sets ctime at every change, so
other bytes of the same size and mtime are read again, while a renamed or moved file is not. What
was found is appended to `<cache root>/hashes/<book>`, a line each in one write, so processes share
it without locks; a line that another one tore is passed over. Deleting the folder costs only time.
"""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

from distillbench.files.places import cache_root

__all__ = ["Book", "file_sha256", "folder_book", "open_book"]

SETTLED_SECONDS = 2.0
"""A file that changed less than this ago could change again within one tick of its clock."""


def file_sha256(
    path: Path | str, *, book: str = "weights", stat: os.stat_result | None = None
) -> str:
    """Hex sha256 of a file's bytes, links followed; read again only when the file has changed.

    Args:
        path: the file.
        book: where it is remembered; a plan that needs one book never reads the others.
        stat: what the file system says of it, where that was just asked for.

    Raises:
        OSError: it is not there or cannot be read.
    """
    return open_book(book).sha256(path, stat or os.stat(path))


def open_book(name: str) -> Book:
    """What is remembered under a name where the environment now says."""
    return _book(_place(name, os.environ.get("DISTILLBENCH_CACHE"), os.environ.get("HOME")))


def folder_book(kind: str, folder: Path) -> str:
    """The book of one folder with very many files: of images, or of a store."""
    return f"{kind}-{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]}"


class Book:
    """What is known of some files: `_seen` of a file -> its sha256."""

    def __init__(self, place: str) -> None:
        self._path = path = Path(place)
        self._known: dict[str, str] = {}
        with suppress(OSError):
            for line in path.read_bytes().decode("ascii", "replace").split("\n"):
                seen, _, rest = line.rpartition("\t")
                sha256, _, check = rest.partition(" ")
                if check == _check(seen, sha256):
                    self._known[seen] = sha256

    def sha256(self, path: Path | str, stat: os.stat_result) -> str:
        """Hex sha256 of a file's bytes; `stat` is what the file system says of it now."""
        return self._known.get(_seen(stat)) or self.read(path)

    def read(self, path: Path | str) -> str:
        """Hash a file, and remember it unless it changes or has just changed."""
        with open(path, "rb") as file:
            before = os.fstat(file.fileno())
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            after = os.fstat(file.fileno())
        if _seen(before) == _seen(after) and time.time() - after.st_ctime > SETTLED_SECONDS:
            self._remember(_seen(after), sha256)
        return sha256

    def _remember(self, seen: str, sha256: str) -> None:
        self._known[seen] = sha256
        # A leading newline ends what a dying process may have left.
        line = f"\n{seen}\t{sha256} {_check(seen, sha256)}\n".encode()
        with suppress(OSError):  # a read-only or full home only costs time
            self._path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(handle, line)
            finally:
                os.close(handle)


_book = cache(Book)


@cache
def _place(book: str, *environment: str | None) -> str:
    """The file of a book; `environment` is all that may move it."""
    return os.path.join(cache_root(), "hashes", book)


def _seen(stat: os.stat_result) -> str:
    times = f"{stat.st_mtime_ns} {stat.st_ctime_ns}"
    return f"{stat.st_dev} {stat.st_ino} {stat.st_size} {times}"


def _check(seen: str, sha256: str) -> str:
    return hashlib.sha256(f"{seen}\t{sha256}".encode()).hexdigest()[:8]
