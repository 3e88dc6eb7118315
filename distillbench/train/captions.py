"""A folder of captioned pictures: `captions.jsonl`, and a look at every file before training."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from distillbench.backbones._source import cache_root
from distillbench.errors import BadInput
from distillbench.sample.textfiles import JsonObject, json_of, lines, read_text, shown, text_problem
from distillbench.train.pictures import open_picture

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

    Every picture is decoded once, as the header of a truncated file looks whole; the verdict is
    kept until the file changes (by device, inode, size and times).
    """
    first: dict[str, None] = dict.fromkeys(captions.files)
    memory = _Memory(captions.root)
    todo = [file for file in first if memory.verdict(file) is None]
    if len(todo) > MANY:
        print(f"decoding {len(todo)} pictures of {captions.root} once", file=sys.stderr)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for file, verdict in zip(todo, pool.map(_verdict(captions.root), todo), strict=True):
            memory.put(file, verdict)
    memory.save()
    return [line for file in first if (line := memory.verdict(file))]


def _verdict(root: Path) -> Callable[[str], str]:
    def of(file: str) -> str:
        try:
            open_picture(root / file)
        except BadInput as error:
            return error.line
        except MemoryError:
            return f"{root / file}: too large for this machine's memory"
        return ""

    return of


class _Memory:
    """Verdicts on the files of a folder, kept between processes."""

    def __init__(self, root: Path) -> None:
        name = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:20]
        self._root, self._file = root, cache_root() / "pictures" / f"{name}.json"
        self._before: dict[str, Any] = {}
        self._now: dict[str, tuple[list[int], str]] = {}
        with suppress(OSError, ValueError):
            read = json.loads(self._file.read_text(encoding="utf-8"))
            self._before = read["files"] if read["version"] == CHECK_VERSION else {}

    def verdict(self, file: str) -> str | None:
        """What was found the last time, None when the file is new or changed since."""
        if file not in self._now:
            known = self._before.get(file)
            if known is None or known[0] != self._signature(file):
                return None
            self._now[file] = (known[0], str(known[1]))
        return self._now[file][1]

    def put(self, file: str, verdict: str) -> None:
        """Remember what was found."""
        self._now[file] = (self._signature(file), verdict)

    def save(self) -> None:
        """Write what is known by now."""
        if {name: list(value) for name, value in self._now.items()} == self._before:
            return
        with suppress(OSError):  # a read-only home only costs time
            self._file.parent.mkdir(parents=True, exist_ok=True)
            building = self._file.with_suffix(f".{os.getpid()}.tmp")
            text = json.dumps({"version": CHECK_VERSION, "files": self._now})
            building.write_text(text, encoding="utf-8")
            building.replace(self._file)

    def _signature(self, file: str) -> list[int]:
        try:
            s = (self._root / file).stat()
        except (OSError, ValueError):
            return []
        return [s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns]
