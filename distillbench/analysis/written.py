"""Tables as they were written: the JSON files beside the LaTeX, read for ours and the papers'."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Discriminator, Tag, ValidationError

from distillbench.errors import ArtifactError, BadInput
from distillbench.files.io import read_json
from distillbench.specs.record import told

__all__ = ["PAPER", "Scorer", "WrittenTable", "find_tables"]

PAPER = "_paper"
"""Behind a metric's name: the column that holds its published numbers."""
_NO_TABLES = frozenset({"plan.json", "claims.json", "cost.json"})


class _Written(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, allow_inf_nan=False)


class WrittenNumber(_Written):
    """A number with what is known of its error; older files lack the last two."""

    value: float | None = None
    stderr: float | None = None
    source: str = ""
    against: str = ""
    partial: bool = False


class WrittenColumn(_Written):
    """Its `kind` is field, number or published; `span` is a head over several columns."""

    key: str
    kind: str
    label: str = ""
    span: str = ""


class Head(NamedTuple):
    """What stands over a metric: what it was measured with, and its column."""

    measured: str
    text: str


class Scorer(NamedTuple):
    """The identity of what measured a column: of other weights or another version it is another."""

    metric: str = ""
    version: str = ""
    revision: str = ""
    weights: str = ""

    @property
    def text(self) -> str:
        """As a note shows it."""
        digest = re.search(r"[0-9a-f]{8}", self.revision)
        weights = f", weights {digest[0]}" if digest else ""
        return f"version {self.version}{weights}" if self.version else "not on record"


def _kind_of(cell: Any) -> str:
    return "number" if isinstance(cell, dict | WrittenNumber) else "field"


_Field = str | int | float | bool | None
_Cell = Annotated[
    Annotated[WrittenNumber, Tag("number")] | Annotated[_Field, Tag("field")],
    Discriminator(_kind_of),
]


class WrittenRow(_Written):
    """Rows of one group are ranked together."""

    group: str = ""
    cells: dict[str, _Cell]

    def number(self, key: str) -> WrittenNumber:
        """The number in a column; one without a value where there is none."""
        cell = self.cells.get(key)
        return cell if isinstance(cell, WrittenNumber) else WrittenNumber()

    @property
    def name(self) -> str:
        """Its label, with the number of evaluations where the table has them."""
        label, nfe = self.cells.get("label", ""), self.cells.get("nfe")
        return str(label) if nfe is None else f"{label}[nfe={nfe}]"


class WrittenTable(_Written):
    """One table; see `report.writers.table_json`."""

    name: str
    columns: list[WrittenColumn]
    rows: list[WrittenRow]
    protocols: dict[str, dict[str, Any]] = {}

    @classmethod
    def of(cls, value: Any, path: Path) -> WrittenTable:
        """The table that was read from `path`.

        Raises:
            ArtifactError: a field is missing or of another type; one line that names it.
        """
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            what = told(error, cls, value, owner="a table")
            raise ArtifactError(
                f"{path}: {what}", hint="make it again: distillbench table FILE"
            ) from None

    def scorer(self, metric: str) -> Scorer:
        """What measured a metric or a category of it; empty in files that do not record it."""
        own = [name for name in self.protocols if metric == name or metric.startswith(f"{name}_")]
        if not own:
            return Scorer()
        told = self.protocols[max(own, key=len)]
        revision = str(told.get("revision") or "")
        return Scorer(str(told.get("metric", "")), str(told.get("version", "")), revision,
                      str(told.get("weights", "")))  # fmt: skip

    @property
    def compared(self) -> dict[str, Head]:
        """Metric -> its head, for metrics whose published numbers stand beside ours."""
        keys = {column.key for column in self.columns if column.kind == "published"}
        ours = (c for c in self.columns if c.kind == "number" and c.key + PAPER in keys)
        return {c.key: Head(c.span or c.label, f"{c.span} {c.label}".strip()) for c in ours}


def find_tables(folders: Sequence[Path]) -> list[tuple[Path, WrittenTable]]:
    """The tables in results folders: files of each, and of the experiments in it; each file once.

    Raises:
        BadInput: there is no such folder, or no table in it.
        ArtifactError: a file cannot be read as the table it says it is.
    """
    found: dict[Path, tuple[Path, WrittenTable]] = {}
    for folder in folders:
        if not folder.is_dir():
            what = "not a folder" if folder.exists() else "no such folder"
            raise BadInput(f"{folder}: {what}", hint="Name a folder of results")
        here = {path.resolve(): (path, table) for path, table in _in(folder)}
        if not here:
            raise BadInput(f"{folder}: no tables in it", hint="distillbench table FILE makes them")
        found = here | found
    return sorted(found.values(), key=lambda item: str(item[0]))


def _in(folder: Path) -> Iterator[tuple[Path, WrittenTable]]:
    for pattern in ("*.json", "*/*.json"):
        for path in sorted(folder.glob(pattern)):
            if path.name in _NO_TABLES:
                continue
            value = read_json(path)
            if isinstance(value, dict) and {"name", "columns", "rows"} <= value.keys():
                yield path, WrittenTable.of(value, path)
