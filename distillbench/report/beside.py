"""What stands beside a row's own numbers: the paper's, and what the registry says of its method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distillbench.analysis.aggregate import Results
from distillbench.analysis.published import PUBLISHED, PublishedRow, PublishedTable
from distillbench.analysis.registered import FACTS, fact_name, registered
from distillbench.analysis.rows import Row
from distillbench.api.metric import MetricInfo
from distillbench.report.table import MISSING, Column, Entry, Footnotes

__all__ = ["Beside", "fact_cell", "fact_column", "published_column"]


@dataclass(frozen=True)
class Beside:
    """A published table beside rows of ours.

    Attributes:
        match: see `TableConfig.published_match`.
        backbones: alias -> label.
    """

    table: PublishedTable
    match: Mapping[str, str]
    backbones: Mapping[str, str]
    infos: Mapping[str, MetricInfo]
    footnotes: Footnotes

    def has(self, key: str, rows: Sequence[Row]) -> bool:
        """Whether any published row has a number of that column."""
        nfes = {row.first.nfe for row in rows}
        return any(row.column(key, nfe) for row in self.table.rows for nfe in nfes)

    def number(self, row: Row, key: str, metric: str) -> Entry:
        """The published number of the same row, empty when the paper has none."""
        theirs = self._row(row)
        hit = theirs.column(key, row.first.nfe) if theirs else None
        if theirs is None or hit is None:
            return Entry("")
        column, factor = hit
        number = float(theirs.cells[column]) * factor
        text = theirs.cells[column] if factor == 1.0 else format(number, self.infos[metric].format)
        return self._entry(theirs, column, text, number)

    def text(self, row: Row, column: str) -> Entry:
        """What is printed in a column of the published table, empty where no row is beside ours."""
        theirs = self._row(row)
        text = theirs.cells[column] if theirs else ""
        return self._entry(theirs, column, text, text) if theirs and text else Entry("", "")

    def _row(self, row: Row) -> PublishedRow | None:
        cell = row.first
        if not cell.final:  # the paper's students had all of their training
            return None
        names = [cell.backbone, self.backbones.get(cell.backbone, "")]
        return self.table.beside(self.match, row.name, backbone=names, nfe=cell.nfe)

    def _entry(self, theirs: PublishedRow, column: str, text: str, value: float | str) -> Entry:
        marks = self.footnotes.marks(theirs.note(column))
        return Entry(text, value, marks=marks, source=f"{self.table.stem}/{theirs.key}")


def published_column(name: str) -> Column:
    """The column that `published.<column>` asks for; text, and never ranked."""
    head = name.removeprefix(PUBLISHED).replace("_", " ")
    return Column(name, f"{head}, paper", "field")


def fact_column(name: str) -> Column:
    """The column that `registry.<fact>` asks for."""
    return Column(name, FACTS[fact_name(name)][0], "field")


def fact_cell(results: Results, row: Row, name: str) -> Entry:
    """What the registry says of a row; `--` for samples that were made elsewhere."""
    stage = results.plan.stages.get(row.first.train)
    text = registered(stage, fact_name(name)) if stage else MISSING
    return Entry(text, text)
