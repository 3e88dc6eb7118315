"""Data that remembers where it was written, and the problems found in it.

A `MapNode` is a dict and a `SeqNode` a list, so everything that takes plain data takes them; each
also keeps a `Mark` per entry. Merging keeps the mark of whichever side won, so that an error in a
fully merged cell still points at the line its author wrote.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from distillbench.errors import ConfigError

__all__ = [
    "MapNode", "Mark", "Path", "Problems", "SeqNode",
    "did_you_mean", "locate", "merge", "path_text", "set_path",
]  # fmt: skip

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Mark:
    """Where an entry was written: file (or option), 1-based line and column, and its path."""

    source: str = ""
    line: int = 0
    col: int = 0
    path: str = ""

    @property
    def prefix(self) -> str:
        """`file:line:col: path: `, leaving out what is not known."""
        where = f"{self.source}:{self.line}:{self.col}" if self.line else self.source
        return "".join(f"{part}: " for part in (where, self.path) if part)


class MapNode(dict[str, Any]):
    """A mapping with the mark of each key and of itself."""

    def __init__(self, *args: Any, mark: Mark | None = None) -> None:
        super().__init__(*args)
        self.mark = mark or Mark()
        self.marks: dict[str, Mark] = {}

    def put(self, key: str, value: Any, mark: Mark) -> None:
        """Set an entry and where it came from."""
        self[key] = value
        self.marks[key] = mark


class SeqNode(list[Any]):
    """A list with the mark of each entry and of itself."""

    def __init__(self, *args: Any, mark: Mark | None = None) -> None:
        super().__init__(*args)
        self.mark = mark or Mark()
        self.marks: list[Mark] = []


@dataclass
class Problems:
    """Collects what is wrong, so that all of it is told at once."""

    lines: list[str] = field(default_factory=list)

    def add(self, mark: Mark, what: str) -> None:
        """Note a problem at a place; the same line is noted once."""
        line = f"{mark.prefix}{what}"
        if line not in self.lines:
            self.lines.append(line)

    def raise_if_any(self) -> None:
        """Raises ConfigError with all problems, in the order they were found."""
        if self.lines:
            raise ConfigError(self.lines)


def path_text(path: Sequence[str | int]) -> str:
    """`("rows", 1, "nfe")` as `rows[1].nfe`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def did_you_mean(word: object, allowed: Iterable[str]) -> str:
    """` Did you mean 'x'?`, or nothing when no allowed word is near."""
    words = {name.lower(): name for name in allowed}
    near = difflib.get_close_matches(str(word).lower(), list(words), n=1, cutoff=0.6)
    return f" Did you mean {words[near[0]]!r}?" if near else ""


def locate(tree: Any, path: Sequence[str | int]) -> tuple[Mark, Path]:
    """The mark of the deepest entry on `path` that exists, and what is left of the path.

    Parts that are not in the data (the tags pydantic puts in for unions) are passed over.
    """
    mark = tree.mark if isinstance(tree, MapNode | SeqNode) else Mark()
    rest: list[str | int] = []
    for part in path:
        found = _entry_mark(tree, part)
        tree = tree[part] if _has(tree, part) else tree
        mark, rest = (found, []) if found else (mark, [*rest, part])
    return mark, tuple(rest)


def _has(tree: Any, part: str | int) -> bool:
    if isinstance(tree, dict):
        return part in tree
    return isinstance(tree, list) and isinstance(part, int) and part < len(tree)


def _entry_mark(tree: Any, part: str | int) -> Mark | None:
    if not _has(tree, part):
        return None
    if isinstance(tree, MapNode):
        return tree.marks.get(str(part))
    return tree.marks[int(part)] if isinstance(tree, SeqNode) and tree.marks else None


def merge(under: Any, over: Any) -> Any:
    """`over` on top of `under`: mappings merge key by key, anything else (a list too) replaces."""
    if not (isinstance(under, dict) and isinstance(over, dict)):
        return over
    marks = dict(getattr(under, "marks", {}))
    result = MapNode(under, mark=getattr(over, "mark", None))
    for key, value in over.items():
        result[key] = merge(under[key], value) if key in under else value
        if isinstance(over, MapNode) and key in over.marks:
            marks[key] = over.marks[key]
    result.marks = marks
    return result


def set_path(tree: Any, path: Sequence[str | int], value: Any, mark: Mark) -> Any:
    """A copy of `tree` with the value at `path` replaced; mappings on the way are made.

    Raises:
        KeyError: the path runs through a plain value, or names an index a list does not have.
    """
    if not path:
        return value
    head, rest = path[0], path[1:]
    if isinstance(tree, list):
        index = _index(tree, head)
        copy = SeqNode(tree, mark=getattr(tree, "mark", None))
        copy.marks = list(getattr(tree, "marks", [])) or [mark] * len(tree)
        copy[index] = set_path(tree[index], rest, value, mark)
        copy.marks[index] = copy.marks[index] if rest else mark
        return copy
    if tree is not None and not isinstance(tree, dict):
        raise KeyError(f"{tree!r} is a value, not a mapping; it has no {head!r}")
    node = MapNode(tree or {}, mark=getattr(tree, "mark", mark))
    node.marks = dict(getattr(tree, "marks", {}))
    key = str(head)
    node[key] = set_path(node.get(key), rest, value, mark)
    if not rest or key not in node.marks:
        node.marks[key] = mark
    return node


def _index(items: list[Any], part: str | int) -> int:
    if not str(part).isdecimal() or int(part) >= len(items):
        last = len(items) - 1
        raise KeyError(f"{part!r} is no index of a list with entries 0..{last}")
    return int(part)
