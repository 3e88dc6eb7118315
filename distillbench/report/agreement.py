"""Write how far tables agree with the papers': CSV, Markdown, JSON, and text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from distillbench.analysis.agreement import (
    Agreement,
    Comparison,
    agreements,
    comparisons,
    in_all,
)
from distillbench.analysis.scorers import Scorers
from distillbench.analysis.written import find_tables
from distillbench.report.writers import md_escape, to_csv, to_json, write_text

__all__ = ["HEADS", "NOTE", "Found", "look", "texts", "write_agreement"]

HEADS = (
    "table", "group", "metric", "rows", "agree", "differ", "undecided", "tied in the paper",
    "agree of decided", "same sign of all", "tau-b",
)  # fmt: skip
NOTE = (
    "A published comparison is a pair of rows of one table and group that both have a published "
    "number of the metric, and different ones. It is decided where ours differ by more than 1.96 "
    "times the root of the sum of their squared standard errors. Intervals are Wilson's at 95 %; "
    "pairs of one table share rows, so that they are too narrow."
)


@dataclass(frozen=True)
class Found:
    """What was found in some folders.

    Attributes:
        counted: tables that are in the sums.
        tables: a line for each table, group and metric.
        metrics: a line for each metric over all tables.
        all: over all metrics, their categories left out.
        comparisons: the single ones.
        notes: tables that are left out of the sums, and whose scorers are not the ones here.
    """

    folders: tuple[str, ...]
    counted: int
    tables: tuple[Agreement, ...]
    metrics: tuple[Agreement, ...]
    all: Agreement
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """The whole in one sentence."""
        whole, names = self.all, ", ".join(self.folders)
        count = whole.agree + whole.differ + whole.undecided
        if not count:
            return f"No table of {names} has two rows with published numbers of one metric."
        tables = self.counted
        where = f"{tables} table{'s' if tables > 1 else ''} of {names}"
        return (
            f"Of {count} published comparisons ({where}) {whole.agree} agree, "
            f"{whole.differ} differ and {whole.undecided} are undecided: "
            f"{_share(whole.share, whole.low, whole.high)} of the decided agree; "
            f"{_share(whole.signs, whole.signs_low, whole.signs_high)} of all have the same sign."
        )

    def plain(self) -> dict[str, Any]:
        """JSON-able form."""
        return {"summary": self.summary, "note": NOTE, **asdict(self)}


def look(folders: Sequence[Path]) -> Found:
    """Read every table of the folders. Raises BadInput, ArtifactError (see `find_tables`)."""
    tables = [table for _, table in find_tables(folders)]
    scorers = Scorers(tables)
    *metrics, whole = in_all(tables, scorers)
    counted = [
        any(not scorers.left_out(table, line.metric) for line in agreements(table))
        for table in tables
    ]
    return Found(
        folders=tuple(str(folder) for folder in folders),
        counted=sum(counted),
        tables=tuple(line for table in tables for line in agreements(table)),
        metrics=tuple(metrics),
        all=whole,
        comparisons=tuple(c for table in tables for c in comparisons(table)),
        notes=tuple(scorers.notes),
    )


def texts(line: Agreement) -> tuple[str, ...]:
    """What a reader sees of a line, one text per head."""
    rows = "" if line.rows is None else str(line.rows)
    return (
        line.table or "all", line.group, line.label or line.metric or "all metrics", rows,
        str(line.agree), str(line.differ), str(line.undecided), str(line.tied),
        _share(line.share, line.low, line.high),
        _share(line.signs, line.signs_low, line.signs_high),
        "" if line.tau is None else f"{line.tau:+.2f}",
    )  # fmt: skip


def write_agreement(found: Found, folder: Path) -> list[Path]:
    """Write agreement.csv, .md and .json, and the single comparisons as CSV; returns the paths."""
    lines = (*found.tables, *found.metrics, found.all)
    kinds = ((Agreement, lines, "agreement"), (Comparison, found.comparisons, "comparisons"))
    paths = []
    for kind, rows, stem in kinds:
        names = [f.name for f in fields(kind)]
        text = to_csv(names, [[getattr(row, name) for name in names] for row in rows])
        paths.append(write_text(folder / f"{stem}.csv", text))
    head = [f"| {' | '.join(HEADS)} |", f"|{'---|' * len(HEADS)}"]
    body = [f"| {' | '.join(map(md_escape, texts(line)))} |" for line in lines]
    text = "\n".join(
        ["# Agreement with the papers", "", md_escape(found.summary), "", *head, *body]
    )
    notes = "\n\n".join(md_escape(note) for note in (NOTE, *found.notes))
    paths.append(write_text(folder / "agreement.md", f"{text}\n\n{notes}\n"))
    paths.append(write_text(folder / "agreement.json", to_json(found.plain())))
    return paths


def _share(share: float | None, low: float | None, high: float | None) -> str:
    if share is None or low is None or high is None:
        return "--"
    return f"{share:.0%} ({low:.0%} to {high:.0%})"
