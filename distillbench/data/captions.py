"""A folder of captioned pictures: `captions.jsonl`, and a look at every file before training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from distillbench.data.looked_at import damaged
from distillbench.errors import BadInput
from distillbench.files.textfiles import JsonObject, json_of, lines, read_text, shown, text_problem

__all__ = ["Captions", "picture_problems", "read_captions"]

INDEX = "captions.jsonl"


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


def read_captions(root: Path, name: str = INDEX, key: str = "text") -> Captions:
    """`captions.jsonl` of a folder: {"file": ..., "text": ...} a line, blank lines aside.

    Args:
        name, key: of another such file, and what it calls the text.

    Raises:
        BadInput: no such file, or lines that name no picture of the folder with its caption; one
            line of `file:line: what` for each.
    """
    index = root / name
    if not index.exists():
        raise BadInput(
            f"no training images in {root}: it needs {INDEX}",
            hint='one JSON line per image: {"file": "a.png", "text": "its caption"}',
        )
    rows, problems = [], []
    unread: dict[str, None] = {}
    for number, line in lines(read_text(index, "captions")):
        try:
            row = _row(line, number, key)
            rows.append((row["file"], row[key]))
            unread |= dict.fromkeys(other for other in row if other not in ("file", key))
        except ValueError as error:
            problems.append(f"{index}:{number}: {error}")
    if not rows and not problems:
        problems = [f"{index}: holds no captions"]
    if problems:
        raise BadInput("\n".join(problems))
    files, texts = (tuple(column) for column in zip(*rows, strict=True))
    empty = sum(not text.strip() for text in texts)
    return Captions(root, files, texts, tuple(unread), empty)


def _row(line: str, number: int, text: str) -> dict[str, Any]:
    value = json_of(line)
    if not isinstance(value, JsonObject):
        raise ValueError(f"not an object with the keys file and {text}, but {shown(value)}")
    row = value.once()
    if missing := [key for key in ("file", text) if key not in row]:
        which = " and ".join(missing)
        raise ValueError(f"line {number} needs the keys file and {text}; it lacks {which}")
    for key, what in (("file", "the file"), (text, "the caption")):
        if problem := text_problem(row[key]):
            raise ValueError(f"{what} {problem}")
    inside = PurePosixPath(row["file"])
    if not inside.parts or inside.is_absolute() or ".." in inside.parts:
        raise ValueError(f"the file {shown(row['file'])} is no path inside the folder")
    return row


def picture_problems(captions: Captions) -> list[str]:
    """One line for each picture that cannot be trained on."""
    return damaged(captions.root, captions.files)
