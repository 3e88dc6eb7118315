"""A folder of captioned pictures: `captions.jsonl`, and a look at every file before training."""

from __future__ import annotations

import json
import os
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from distillbench.data.pictures import open_picture
from distillbench.errors import BadInput
from distillbench.files.hashes import file_sha256, folder_book
from distillbench.files.places import cache_root
from distillbench.files.textfiles import JsonObject, json_of, lines, read_text, shown, text_problem

__all__ = ["Captions", "picture_problems", "read_captions"]

INDEX = "captions.jsonl"
CHECK_VERSION = 1
"""Raised when a picture that passed may no longer do so."""
MANY = 500


@dataclass(frozen=True)
class Captions:
    """The pictures of a folder with their captions, in the order of the file.

    Attributes:
        unread: keys of the lines that mean nothing here.
        empty: number of captions without a word.
    """

    root: Path
    files: tuple[str, ...]
    texts: tuple[str, ...]
    unread: tuple[str, ...] = ()
    empty: int = 0

    @property
    def paths(self) -> tuple[Path, ...]:
        """The pictures' places."""
        return tuple(self.root / file for file in self.files)


def read_captions(root: Path) -> Captions:
    """`captions.jsonl` of a folder: {"file": ..., "text": ...} a line, blank lines aside.

    Raises:
        BadInput: no such file, or lines that name no picture of the folder with its caption; one
            line of `file:line: what` for each.
    """
    index = root / INDEX
    if not index.exists():
        raise BadInput(
            f"no training images in {root}: it needs {INDEX}",
            hint='one JSON line per image: {"file": "a.png", "text": "its caption"}',
        )
    rows, problems = [], []
    unread: dict[str, None] = {}
    for number, line in lines(read_text(index, "captions")):
        try:
            row = _row(line, number)
            rows.append((row["file"], row["text"]))
            unread |= dict.fromkeys(key for key in row if key not in ("file", "text"))
        except ValueError as error:
            problems.append(f"{index}:{number}: {error}")
    if not rows and not problems:
        problems = [f"{index}: holds no captions"]
    if problems:
        raise BadInput("\n".join(problems))
    files, texts = (tuple(column) for column in zip(*rows, strict=True))
    empty = sum(not text.strip() for text in texts)
    return Captions(root, files, texts, tuple(unread), empty)


def _row(line: str, number: int) -> dict[str, Any]:
    value = json_of(line)
    if not isinstance(value, JsonObject):
        raise ValueError(f"not an object with the keys file and text, but {shown(value)}")
    row = value.once()
    if missing := [key for key in ("file", "text") if key not in row]:
        which = " and ".join(missing)
        raise ValueError(f"line {number} needs the keys file and text; it lacks {which}")
    for key, what in (("file", "the file"), ("text", "the caption")):
        if problem := text_problem(row[key]):
            raise ValueError(f"{what} {problem}")
    inside = PurePosixPath(row["file"])
    if not inside.parts or inside.is_absolute() or ".." in inside.parts:
        raise ValueError(f"the file {shown(row['file'])} is no path inside the folder")
    return row


def picture_problems(captions: Captions) -> list[str]:
    """One line for each picture that cannot be trained on.

    Every picture is decoded once, as the header of a truncated file looks whole; what was found is
    remembered by the file's content.
    """
    files = list(dict.fromkeys(captions.files))
    memory = _Memory(captions.root)
    if len(files) - memory.known > MANY:
        print(f"decoding the pictures of {captions.root} once", file=sys.stderr)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        verdicts = list(pool.map(memory.verdict, files))
    memory.save()
    return [f"{captions.root / file}: {what}" for file, what in zip(files, verdicts) if what]


class _Memory:
    """Verdicts on the pictures of a folder by their sha256, kept between processes."""

    def __init__(self, root: Path) -> None:
        self._root, self._book = root, folder_book("images", root)
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
        """What keeps a picture from being trained on, "" when nothing does."""
        path = self._root / file
        try:
            regular = stat.S_ISREG(path.stat().st_mode)
            sha256 = file_sha256(path, book=self._book) if regular else ""
        except (OSError, ValueError):
            sha256 = ""
        if not sha256:
            return _problem(path)
        found = self._before.get(sha256)
        self._now[sha256] = _problem(path) if found is None else found
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


def _problem(path: Path) -> str:
    try:
        open_picture(path)
    except BadInput as error:
        return error.line.removeprefix(f"{path}: ")
    except MemoryError:
        return "too large for this machine's memory"
    return ""
