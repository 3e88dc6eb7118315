"""The table model: what every writer (LaTeX, CSV, Markdown, JSON, HTML, terminal) renders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, Literal

__all__ = [
    "MISSING",
    "Column",
    "Direction",
    "Entry",
    "Footnotes",
    "Line",
    "Run",
    "Span",
    "Table",
    "marker",
    "rank",
]

MISSING = "--"
Direction = Literal["up", "down", ""]


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        key: name in CSV and JSON.
        label: head.
        kind: a field of the row, a measured number, or a published one.
        span: head that this column shares with its neighbours of the same span; "" for none.
        direction: "up" when higher is better, "down" when lower is, "" when never ranked.
    """

    key: str
    label: str
    kind: Literal["field", "number", "published"]
    span: str = ""
    direction: Direction = ""


@dataclass(frozen=True)
class Run:
    """One seed behind a cell, by its stage keys; `reference` is the sample set compared with."""

    seed: int
    train: str
    sample: str
    score: str = ""
    reference: str = ""


@dataclass(frozen=True)
class Entry:
    """One cell.

    Attributes:
        text: what is displayed, without error and marks.
        value: the number (or the field's value) in full; None when missing.
        stderr, stderr_text, stderr_over, n: its error, as displayed, over what, and samples.
        rank: 1 best, 2 second, 0 neither.
        partial: it is a mean over a part of its seeds, and so is not ranked.
        marks: footnote markers.
        against: what it is a distance to; only values of equal `against` are ranked together.
        runs: the runs it is made of.
        source: stem and exact key of a published number.
    """

    text: str
    value: float | str | None = None
    stderr: float | None = None
    stderr_text: str = ""
    stderr_over: str = ""
    n: int = 0
    rank: int = 0
    partial: bool = False
    marks: tuple[str, ...] = ()
    against: str = ""
    runs: tuple[Run, ...] = ()
    source: str = ""


@dataclass(frozen=True)
class Line:
    """One row of cells; `group` puts it under a rule, `ranked` lets its numbers compete."""

    cells: tuple[Entry, ...]
    group: str = ""
    ranked: bool = True


@dataclass(frozen=True)
class Span:
    """A shared head over columns `first`..`last` (1-based, inclusive); "" over a plain one."""

    label: str
    direction: Direction
    first: int
    last: int


@dataclass(frozen=True)
class Table:
    """A whole table.

    Attributes:
        footnotes: (marker, text) in order of the markers.
        notes: general remarks below it.
        protocols: metric -> how all its values here were measured, digests included.
        standalone: its LaTeX document is a page of the size of the table.
    """

    name: str
    caption: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    footnotes: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    protocols: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    standalone: bool = False

    @property
    def spans(self) -> tuple[Span, ...]:
        """The upper row of heads; empty when no column shares a head."""
        if not any(column.span for column in self.columns):
            return ()
        found, start = [], 1
        for _, members in groupby(self.columns, key=lambda c: c.span or c.key):
            run = list(members)
            found.append(Span(run[0].span, run[0].direction, start, start + len(run) - 1))
            start += len(run)
        return tuple(found)

    def remarks(self, line: Line) -> str:
        """What the footnotes of a line say, by column, for files whose numbers have no marks."""
        texts, found = dict(self.footnotes), dict[str, list[str]]()
        for column, cell in zip(self.columns, line.cells, strict=True):
            for mark in cell.marks:
                found.setdefault(texts[mark], []).append(column.key)
        return "; ".join(f"{', '.join(keys)}: {text}" for text, keys in found.items())

    @property
    def groups(self) -> tuple[tuple[str, tuple[Line, ...]], ...]:
        """Lines by group, groups in order of first appearance."""
        found: dict[str, list[Line]] = {}
        for line in self.lines:
            found.setdefault(line.group, []).append(line)
        return tuple((name, tuple(lines)) for name, lines in found.items())


def rank(table: Table, *, within_groups: bool) -> Table:
    """Mark the best and second values of each measured column, by what is displayed.

    Equal displayed values share a mark. Lines that are not ranked and means over a part of the
    seeds take no part, values that are distances to different references do not compete, and where
    fewer than two values compete none is marked.
    """
    lines = list(table.lines)
    scopes: dict[str, list[int]] = {}
    for index, line in enumerate(lines):
        if line.ranked:
            scopes.setdefault(line.group if within_groups else "", []).append(index)
    for position, column in enumerate(table.columns):
        if column.kind == "number" and column.direction:
            for members in scopes.values():
                rivals: dict[str, list[int]] = {}
                for index in members:
                    rivals.setdefault(lines[index].cells[position].against, []).append(index)
                for alike in rivals.values():
                    _rank_column(lines, alike, position, higher=column.direction == "up")
    return replace(table, lines=tuple(lines))


def _rank_column(lines: list[Line], members: Sequence[int], position: int, *, higher: bool) -> None:
    shown = {}
    for index in members:
        cell = lines[index].cells[position]
        if cell.value is not None and cell.text != MISSING and not cell.partial:
            shown[index] = float(cell.text.replace(",", "").rstrip("%"))
    if len(shown) < 2:
        return
    best = sorted(set(shown.values()), reverse=higher)[:2]
    for index, value in shown.items():
        if value in best:
            cells = list(lines[index].cells)
            cells[position] = replace(cells[position], rank=best.index(value) + 1)
            lines[index] = replace(lines[index], cells=tuple(cells))


def marker(index: int) -> str:
    """Footnote marker number `index`: a, b, ..., z, aa, ab, ..."""
    text, index = "", index + 1
    while index:
        index, digit = divmod(index - 1, 26)
        text = chr(ord("a") + digit) + text
    return text


class Footnotes:
    """Collects footnote texts and hands out one marker for each distinct one."""

    def __init__(self) -> None:
        self._markers: dict[str, str] = {}

    def marks(self, texts: Iterable[str]) -> tuple[str, ...]:
        """Markers of `texts`, in order; empty texts have none."""
        return tuple(
            self._markers.setdefault(text, marker(len(self._markers))) for text in texts if text
        )

    @property
    def all(self) -> tuple[tuple[str, str], ...]:
        """(marker, text) in order of appearance."""
        return tuple((mark, text) for text, mark in self._markers.items())
