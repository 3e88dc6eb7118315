"""The papers' own numbers, shipped as CSV files and shown beside ours on request."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from distillbench.errors import ConfigError

__all__ = [
    "PUBLISHED", "PublishedRow", "PublishedTable", "load_published", "normalise", "of_label",
    "published_stems", "unknown_published",
]  # fmt: skip

PUBLISHED: Final = "published."
"""Before the name of a column of the published table, to be shown as it is printed there."""

_FOLDER = Path(__file__).parent / "published"
_STEPS = ("steps", "nfe")
_KEY_COLUMNS = ("backbone", "test_solver", "type")
_AVERAGE_TOLERANCE = 0.0101  # two decimals: rounding explains half a unit, a transcriber's one
_HFL_NOTE = "with human feedback learning, which may hack the metrics (TDM, arXiv 2503.06674)"


def normalise(text: str) -> str:
    """Fold case, dashes and spaces, so that `concept-art` meets `concept_art`."""
    return re.sub(r"[\s_\-]+", "_", text.strip().lower())


@dataclass(frozen=True)
class PublishedRow:
    """One line of a published table.

    Attributes:
        name: its first column.
        cells: column -> text as published ("" where the paper has none).
        notes: footnotes that hold for the whole row.
        column_notes: column -> footnote of that number alone.
    """

    name: str
    cells: Mapping[str, str]
    notes: tuple[str, ...]
    column_notes: Mapping[str, str]

    @property
    def steps(self) -> int | None:
        """Sampling steps, where the table has them."""
        text = next((self.cells[c] for c in _STEPS if c in self.cells), "")
        return int(text) if text.isdigit() else None

    @property
    def key_parts(self) -> tuple[str, ...]:
        """Name, backbone and what else tells it apart, and steps; those that its table has."""
        first = next(iter(self.cells))
        own = [self.cells.get(column, "") for column in _KEY_COLUMNS if column != first]
        steps = [str(self.steps)] if self.steps is not None else []
        return (self.name, *filter(None, own), *steps)

    @property
    def key(self) -> str:
        """The exact key of this row within its table, a `published_match` value."""
        return " | ".join(self.key_parts)

    def column(self, metric: str, nfe: int) -> tuple[str, float] | None:
        """The published column that holds `metric` at `nfe`, and its factor; None without one."""
        names = {normalise(c): c for c in self.cells}
        wanted = normalise(metric)
        spellings = (wanted, f"{wanted}_{nfe}_step", f"{wanted}_{nfe}_steps")
        for spelling in spellings:
            for suffix, factor in (("", 1.0), ("_x100", 0.01)):
                column = names.get(spelling + suffix)
                if column is not None and _is_number(self.cells[column]):
                    return column, factor
        return None

    def note(self, column: str) -> tuple[str, ...]:
        """Footnotes of the number in `column`."""
        own = self.column_notes.get(column)
        return (*self.notes, own) if own else self.notes


@dataclass(frozen=True)
class PublishedTable:
    """A published table; `source` is what a footnote cites, `note` what a reader must know."""

    stem: str
    source: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[PublishedRow, ...]

    def find(
        self, key: str, *, backbone: Sequence[str] = (), nfe: int | None = None
    ) -> PublishedRow | None:
        """The row that `key` names (`name`, or `name | backbone | steps` with any parts left out).

        A number of other steps or of another backbone is never shown: the row's steps must be
        `nfe`, and its backbone one of the names ours goes by (`backbone`). Only where ours is none
        of the paper's, as a tiny stand-in is not, the key itself may name the backbone. None when
        no row, or more than one, fits.
        """
        rows = [row for row in self.rows if _fits(row, key) and nfe in (None, row.steps or nfe)]
        published = self._known([row.cells.get("backbone", "") for row in self.rows])
        if not (ours := self._known(backbone)):
            named = {normalise(part) for part in key.split("|")[1:]} & published
            ours = named or (published if len(rows) == 1 and not backbone else set())
        rows = [row for row in rows if normalise(row.cells.get("backbone", "")) in ours | {""}]
        return rows[0] if len(rows) == 1 else None

    def beside(
        self, match: Mapping[str, str], label: str, *, backbone: Sequence[str], nfe: int
    ) -> PublishedRow | None:
        """The row that a `published_match` names for ours; nothing is guessed from what ours say.

        `label[nfe=8]` and `label[backbone=ALIAS]` speak of some rows of a label, `label` of the
        others. Only the first may name other steps than ours, as where a step of a solver takes two
        evaluations; only the second another backbone, as where ours stands in for that one.

        Raises:
            ConfigError: see `require`.
        """
        if key := match.get(f"{label}[nfe={nfe}]"):
            return self.require(key, backbone=backbone)
        for name in backbone:
            if key := match.get(f"{label}[backbone={name}]"):
                return self.require(key, nfe=nfe)
        key = match.get(label)
        return self.require(key, backbone=backbone, nfe=nfe) if key else None

    def _known(self, names: Sequence[str]) -> set[str]:
        """Those of `names` that are backbones of this table."""
        published = {normalise(row.cells.get("backbone", "")) for row in self.rows} - {""}
        return {normalise(name) for name in names} & published

    def require(
        self, key: str, *, backbone: Sequence[str] = (), nfe: int | None = None
    ) -> PublishedRow | None:
        """As `find`, for a key the user wrote.

        Raises:
            ConfigError: the key names no row at all, or leaves open which backbone's; it lists what
                is allowed.
        """
        row = self.find(key, backbone=backbone, nfe=nfe)
        fitting = [r for r in self.rows if _fits(r, key)]
        right_steps = [r for r in fitting if nfe in (None, r.steps or nfe)]
        if row is None and (not fitting or (right_steps and not self._known(backbone))):
            what = "fits several rows" if len(right_steps) > 1 else "names no row"
            what = "needs the backbone to fit a row" if len(right_steps) == 1 else what
            allowed = "; ".join(r.key for r in fitting or self.rows)
            raise ConfigError(f"published_match: {key!r} {what} of {self.stem}; allowed: {allowed}")
        return row


def of_label(name: str) -> tuple[str, int | None]:
    """A `published_match` name as (label, nfe); nfe is None where it speaks of all of them."""
    found = re.fullmatch(r"(.+)\[(?:nfe=([0-9]+)|backbone=[^\]]+)\]", name)
    return (found[1], int(found[2]) if found[2] else None) if found else (name, None)


def published_stems() -> tuple[str, ...]:
    """Names of the tables that ship with the package."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.csv")))


def unknown_published(column: str, stem: str) -> str:
    """What is wrong with `published.<column>`, "" for nothing or for what is not of that form."""
    name = column.removeprefix(PUBLISHED)
    if name == column:
        return ""
    if stem not in published_stems():
        return f"{column!r} is of a published table: name it by `published`"
    known = load_published(stem).columns
    allowed = ", ".join(f"{PUBLISHED}{other}" for other in known)
    return "" if name in known else f"unknown column {column!r} of {stem}; allowed: {allowed}."


@cache
def load_published(stem: str) -> PublishedTable:
    """Read one published table. Raises ConfigError listing the stems for an unknown one."""
    path = _FOLDER / f"{stem}.csv"
    if stem not in published_stems():
        allowed = ", ".join(published_stems())
        raise ConfigError(f"published: no table {stem!r}; allowed: {allowed}")
    sources = json.loads((_FOLDER / "sources.json").read_text(encoding="utf-8"))
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        columns = tuple(reader.fieldnames or ())
        rows = tuple(_row(columns, cells) for cells in reader)
    about = sources[stem]
    return PublishedTable(stem, about["source"], about["note"], columns, rows)


def _row(columns: Sequence[str], cells: Mapping[str, str]) -> PublishedRow:
    notes = (_HFL_NOTE,) if cells.get("hfl") == "Yes" else ()
    return PublishedRow(cells[columns[0]], dict(cells), notes, _average_note(columns, cells))


def _average_note(columns: Sequence[str], cells: Mapping[str, str]) -> dict[str, str]:
    """Say so where the published average is not the mean of the published styles."""
    notes = {}
    for column in columns:
        styles = [c for c in columns if c.startswith(f"{column}_") and "step" not in c]
        texts = [cells[c] for c in (column, *styles)]
        if len(styles) < 2 or not all(map(_is_number, texts)):
            continue
        average, *parts = map(float, texts)
        mean = sum(parts) / len(parts)
        if abs(mean - average) > _AVERAGE_TOLERANCE:
            notes[column] = f"as published; the mean of its published styles is {mean:.2f}"
    return notes


def _fits(row: PublishedRow, key: str) -> bool:
    first, *rest = (normalise(part) for part in key.split("|"))
    name, *others = map(normalise, row.key_parts)
    return name == first and all(part in others for part in rest)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?", text) is not None
