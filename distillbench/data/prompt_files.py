"""Prompts from files: .txt, .csv, .tsv, .json and .jsonl; see `prompts` for named sets."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distillbench.errors import BadInput
from distillbench.files.textfiles import JsonObject, json_of, lines, read_text, shown, text_problem

__all__ = ["SUFFIXES", "PromptFile", "is_prompt_file", "read_prompt_file"]

PROMPT = ("prompt", "prompts")
CATEGORY = ("category", "categories")


@dataclass
class PromptFile:
    """What a file holds.

    Attributes:
        path: the file.
        style: category of the prompts that name none.
        pairs: (prompt, category) in the order of the file.
        unread: fields or columns that mean nothing here.
        problems: `file:line: what` of each entry that is no prompt.
    """

    path: Path
    style: str = ""
    pairs: list[tuple[str, str]] = field(default_factory=list)
    unread: dict[str, None] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def add(self, place: str, prompt: Any, category: Any) -> None:
        """Take an entry, or note what is wrong with it."""
        for name, value in (("prompt", prompt), ("category", category)):
            problem = text_problem(value)
            if not problem and name == "prompt" and not value.strip():
                problem = "is empty"
            if problem:
                self.wrong(place, f"the {name} {problem}")
                return
        self.pairs.append((prompt, category))

    def wrong(self, place: str, what: str) -> None:
        """Note a problem at a place of the file: "12:" for a line, else in words."""
        kind, no_list = self.path.suffix.lower(), "not a list of prompts:"
        place = f" {no_list}{place}" if kind == ".json" else place
        place = f"{place} {no_list}" if kind == ".jsonl" else place
        self.problems.append(f"{self.path}:{place} {what}")

    def record(self, place: str, row: Any, category: str | None = None) -> None:
        """Take a string, or an object with the keys prompt and (if it likes) category."""
        if not isinstance(row, JsonObject):
            self.add(place, row, self.style if category is None else category)
            return
        try:
            fields = row.once()
        except ValueError as error:
            self.wrong(place, str(error))
            return
        if "prompt" not in fields:
            keys = ", ".join(map(shown, fields)) or "none"
            self.wrong(place, f"an object without the key 'prompt'; its keys: {keys}")
            return
        self.unread |= dict.fromkeys(k for k in fields if k not in ("prompt", "category"))
        if category is not None and "category" in fields:
            self.wrong(place, f"a category of its own inside the category {shown(category)}")
            return
        self.add(
            place,
            fields["prompt"],
            fields.get("category", self.style if category is None else category),
        )


def read_prompt_file(path: Path, style: str = "") -> PromptFile:
    """The prompts of a file.

    Raises:
        BadInput: it cannot be read, or something in it is no prompt; one line for each.
    """
    found = PromptFile(path, style)
    text = read_text(path, "a prompt file")
    READERS[path.suffix.lower()](found, text)
    if found.problems:
        raise BadInput("\n".join(found.problems))
    return found


def is_prompt_file(name: str) -> bool:
    """Whether a `prompts` setting is a file and not the name of a set."""
    return name.lower().endswith(SUFFIXES)


def _plain(found: PromptFile, text: str) -> None:
    for number, line in lines(text):
        if "\r" in line:
            found.wrong(f"{number}:", "a carriage return inside a line; end lines with a line feed")
        else:
            found.add(f"{number}:", line.strip(" \t"), found.style)


def _json_lines(found: PromptFile, text: str) -> None:
    for number, line in lines(text):
        try:
            row = json_of(line)
        except ValueError as error:
            found.wrong(f"{number}:", str(error))
        else:
            found.record(f"{number}:", row)


def _json(found: PromptFile, text: str) -> None:
    """A list, or an object from categories to lists; a category that comes twice is one."""
    try:
        data = json_of(text)
    except ValueError as error:
        found.wrong("", str(error))
        return
    if isinstance(data, JsonObject):
        for category, rows in data:
            if text_problem(category):
                found.wrong("", f"the category {shown(category)} {text_problem(category)}")
            else:
                _entries(found, rows, category, f" {shown(category)}:")
    else:
        _entries(found, data, None, "")


def _entries(found: PromptFile, rows: Any, category: str | None, where: str) -> None:
    if not isinstance(rows, list) or isinstance(rows, JsonObject):
        found.wrong(where, f"{shown(rows)} where a list is needed")
        return
    for number, row in enumerate(rows, 1):
        found.record(f"{where.removesuffix(':')} entry {number}:", row, category)


def _table(found: PromptFile, text: str, delimiter: str) -> None:
    """A header names the columns: `prompt` (or `prompts`), and `category` where there is one."""
    reader = csv.reader(io.StringIO(text, newline="\n"), delimiter=delimiter, strict=True)
    columns: Mapping[str, int] | None = None
    width = 0
    try:
        for row in reader:
            place = f"{reader.line_num}:"
            if not any(cell.strip() for cell in row):
                continue
            if columns is None:
                columns, width = _columns(found, place, row), len(row)
                if not columns:
                    return
            elif len(row) != width:
                found.wrong(place, f"{len(row)} cells, the header has {width}")
            else:
                cells = {name: row[index].strip(" \t") for name, index in columns.items()}
                found.add(place, cells["prompt"], cells.get("category", found.style))
    except csv.Error as error:
        found.wrong(f"{reader.line_num}:", f"not a table: {error}")


def _columns(found: PromptFile, place: str, header: Sequence[str]) -> dict[str, int]:
    """Where prompt and category stand; nothing when the header does not say so clearly."""
    names = [cell.strip().lower() for cell in header]
    places: dict[str, int] = {}
    for wanted, words in (("prompt", PROMPT), ("category", CATEGORY)):
        at = [index for index, name in enumerate(names) if name in words]
        if len(at) > 1:
            found.wrong(place, f"several columns are called {wanted}; name the others otherwise")
            return {}
        places |= dict.fromkeys([wanted], at[0]) if at else {}
    if "prompt" not in places:
        there = ", ".join(shown(cell.strip()) for cell in header[:12])
        found.wrong(place, f"no column is called prompt; the header has {there}")
        return {}
    others = (cell for index, cell in enumerate(header) if index not in places.values())
    found.unread |= dict.fromkeys(cell.strip() for cell in others)
    return places


READERS: Mapping[str, Callable[[PromptFile, str], None]] = {
    ".txt": _plain,
    ".csv": lambda found, text: _table(found, text, ","),
    ".tsv": lambda found, text: _table(found, text, "\t"),
    ".json": _json,
    ".jsonl": _json_lines,
}
SUFFIXES = tuple(READERS)
