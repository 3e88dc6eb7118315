"""Rows: all seeds of one line of a table, and how a user's words select them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from distillbench.run.stage import Cell, Plan

__all__ = ["FIELDS", "Row", "chosen", "hidden", "rows_of", "same_value"]

FIELDS = (
    "label", "group", "method", "title", "backbone", "nfe", "guidance_scale", "seeds", "updates",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """All seeds of one line of a table."""

    index: int
    cells: tuple[Cell, ...]

    @property
    def first(self) -> Cell:
        """The cell that stands for what all seeds share."""
        return self.cells[0]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Its seeds, in plan order."""
        return tuple(cell.seed for cell in self.cells)

    @property
    def name(self) -> str:
        """What a table calls it."""
        return self.first.label or self.first.title or self.first.method

    def has(self, field: str) -> bool:
        """Whether `field` is a row field, a tag or a varied path of it."""
        return field in FIELDS or field in self.first.tags or self._varied(field) is not None

    def get(self, field: str) -> Any:
        """A row field, a tag, or a varied value (by its path or its last part); else None."""
        if field == "label":
            return self.name
        if field == "seeds":
            return len(self.cells)
        if field in FIELDS:
            return getattr(self.first, field)
        path = self._varied(field)
        return self.first.tags.get(field) if path is None else self.first.varied[path]

    def hides(self, field: str) -> str:
        """The varied path that a row field of the same last part hides, "" for none."""
        path = self._varied(field) if field in FIELDS else None
        if (
            path is None
            or path == field
            or self.first.varied[path] == getattr(self.first, field, None)
        ):
            return ""
        return path

    def matches(self, where: Mapping[str, Any]) -> bool:
        """Whether every field equals its value, or one of its values."""
        return all(_any_same(self.get(field), wanted) for field, wanted in where.items())

    def _varied(self, field: str) -> str | None:
        varied = self.first.varied
        return next((p for p in varied if p == field or p.rpartition(".")[2] == field), None)


def hidden(rows: Iterable[Row], field: str) -> str:
    """Why rows cannot be told apart by `field`, which hides what varies of them; "" where not."""
    path = next(filter(None, (row.hides(field) for row in rows)), "")
    what = f"{field!r} is the sampling's, and not {path!r}, which varies here; write {path!r}"
    return what if path else ""


def rows_of(plan: Plan) -> tuple[Row, ...]:
    """One per row index, in plan order."""
    grouped: dict[int, list[Cell]] = {}
    for cell in plan.cells:
        grouped.setdefault(cell.row, []).append(cell)
    return tuple(Row(index, tuple(cells)) for index, cells in grouped.items())


def chosen(
    rows: Iterable[Row], where: Mapping[str, Any], speaks_of: Iterable[str] = ()
) -> tuple[Row, ...]:
    """Rows that match `where`.

    Students taken on the way are left out unless `where` or the fields in `speaks_of` (a table's
    columns, a curve's axis) ask for `updates`.
    """
    on_the_way = "updates" in where or "updates" in speaks_of
    return tuple(row for row in rows if (on_the_way or row.first.final) and row.matches(where))


def same_value(ours: Any, wanted: Any) -> bool:
    """Equality that lets a text `4` of a claim meet the number 4 of a row."""
    return ours is not None and (ours == wanted or str(ours) == str(wanted))


def _any_same(ours: Any, wanted: Any) -> bool:
    options = wanted if isinstance(wanted, (list, tuple)) else [wanted]
    return any(same_value(ours, option) for option in options)
