"""Build the tables an experiment asks for from its results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from distillbench.analysis.aggregate import Results, Value
from distillbench.analysis.columns import backbone_labels, find_metric
from distillbench.analysis.costs import cost_name
from distillbench.analysis.origins import Origins
from distillbench.analysis.published import PUBLISHED, load_published, normalise
from distillbench.analysis.references import against
from distillbench.analysis.registered import NOTE, fact_name
from distillbench.analysis.rows import Row
from distillbench.analysis.tidy import StageCosts
from distillbench.api.metric import MetricInfo
from distillbench.experiment.outputs import TableConfig
from distillbench.experiment.schema import Experiment
from distillbench.plan.stage import Cell
from distillbench.report.alike import differing_note, mixed_notes, runs_notes, told_apart
from distillbench.report.beside import Beside, fact_cell, fact_column, published_column
from distillbench.report.cost import Costs, cost_column
from distillbench.report.notes import (
    beside_others,
    code_notes,
    error_notes,
    guidance_note,
    paper_note,
    plain,
    protocol_notes,
    ranking_note,
    reference_note,
    unranked,
)
from distillbench.report.table import (
    MISSING,
    Column,
    Direction,
    Entry,
    Footnotes,
    Line,
    Run,
    Table,
    rank,
)
from distillbench.specs.stages import ScoreSpec

__all__ = ["build_table", "tables_of"]

FLOOR = {
    "same": "the floor: the teacher against its own samples from other noise; the other rows share "
    "their noise with the reference, so that they can fall below it",
    "other": "the floor: the teacher against its own samples, from other noise as in every row",
}
_HEADS = {
    "label": "Method", "group": "Group", "method": "Plug-in", "title": "Method",
    "backbone": "Backbone", "nfe": "NFE", "guidance_scale": "CFG", "seeds": "Seeds",
    "updates": "Updates",
}  # fmt: skip


def tables_of(experiment: Experiment) -> tuple[TableConfig, ...]:
    """The tables asked for; one with every metric when none is."""
    return tuple(experiment.tables) or (TableConfig(name="results"),)


@dataclass(frozen=True)
class _Source:
    """Where a column's cells come from: a row field, a metric's (suffixed) column, or `read`."""

    column: Column
    metric: str = ""
    suffix: str = ""
    read: Callable[[Row], Entry] | None = None


class _Builder:
    """Builds one table; holds what its cells share."""

    def __init__(
        self, config: TableConfig, experiment: Experiment, results: Results,
        infos: Mapping[str, MetricInfo],
    ) -> None:  # fmt: skip
        self.config = config
        self.results = results
        self.infos = infos
        self.backbones = backbone_labels(experiment)
        self.rows = results.select(config.where, [*config.columns, config.group_by])
        grouped = any(row.first.group for row in self.rows)
        self.group_by = config.group_by or ("group" if grouped else "")
        self.some_final = any(row.first.final for row in self.rows)
        self.reference = experiment.reference
        self.reference_noise = experiment.reference.noise if experiment.reference else "same"
        self.footnotes = Footnotes()
        self.beside = self.published()
        self.costs = Costs(results, self.footnotes)
        self.origins = Origins(results.plan, self.backbones, StageCosts(results))

    def published(self) -> Beside | None:
        """The published table that it asks for."""
        stem, match = self.config.published, self.config.published_match
        return Beside(
            load_published(stem), match, self.backbones, self.infos, self.footnotes
        ) if stem else None  # fmt: skip

    def build(self) -> Table:
        """The finished table. Raises MixedProtocols."""
        sources = self._sources
        metrics = list(dict.fromkeys(s.metric for s in sources if s.metric))
        protocols = {m: self.results.protocol(self.rows, m) for m in metrics}
        lines = tuple(
            Line(
                tuple(self.cell(row, source) for source in sources),
                self.shown(row, self.group_by) if self.group_by else "",
                row.first.ranked and (row.first.final or not self.some_final),
            )
            for row in self.rows
        )
        lines = self.told_apart(lines)
        table = Table(
            self.config.name, self.config.caption, tuple(s.column for s in sources), lines,
            self.footnotes.all, tuple(self.notes(lines, protocols)), protocols=protocols,
            standalone=self.config.standalone,
        )  # fmt: skip
        return rank(table, within_groups=bool(self.config.group_by))

    def notes(self, lines: Sequence[Line], protocols: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """What a reader must know before quoting a number."""
        sources = self._sources
        labels = [self.label(source.metric) for source in sources]
        ranks = any(source.column.direction for source in sources)
        within = bool(self.config.group_by)
        return [
            *ranking_note(lines if ranks else [], unranked(self.rows, lines), within_groups=within),
            *guidance_note(self.rows),
            *runs_notes(self.rows),
            *differing_note("Precision", self.rows, lambda row: row.get("train.precision")),
            *mixed_notes(self.rows, {row.index: self.origins.of(row) for row in self.rows}),
            *([NOTE] if any(fact_name(source.column.key) for source in sources) else []),
            *self.costs.notes(self.rows, [source.column.key for source in sources]),
            *error_notes(lines, labels, [row.name for row in self.rows]),
            *protocol_notes(protocols, self.infos),
            *code_notes(self.results.changes, self.rows, protocols),
            *(note for metric in protocols for note in self.reference_notes(metric)),
            *paper_note(
                self.beside.table if self.beside else None, beside_others(self.rows, lines)
            ),
        ]

    def told_apart(self, lines: Sequence[Line]) -> tuple[Line, ...]:
        """Rows that nothing shown tells apart get a footnote with what does."""
        fields = [n for n, source in enumerate(self._sources) if source.column.kind == "field"]
        looks = [[line.group, *(line.cells[n].text for n in fields)] for line in lines]
        return tuple(
            replace(line, cells=(
                replace(line.cells[0], marks=(*line.cells[0].marks, *self.footnotes.marks([text]))),
                *line.cells[1:],
            )) for line, text in zip(lines, told_apart(self.rows, looks), strict=True)
        )  # fmt: skip

    def reference_notes(self, metric: str) -> list[str]:
        """What a metric's values are distances to."""
        if self.reference is None:
            return []
        sides = [
            (self.backbones.get(row.first.backbone, row.first.backbone), side)
            for row in self.rows if (side := against(self.results.plan, row, metric))
        ]  # fmt: skip
        return reference_note(self.label(metric), sides, self.reference)

    # ---- columns ------------------------------------------------------------------------

    @cached_property
    def _sources(self) -> list[_Source]:
        """Columns in order, defaults filled in, published ones beside ours."""
        asked = list(self.config.columns) or list(self.infos)
        if not any(map(self.is_field, asked)):
            asked = [*self.default_fields(), *asked]
        return [source for name in asked for source in self.expand(name)]

    def is_field(self, name: str) -> bool:
        """Whether a column name means a field of the rows rather than a metric."""
        if find_metric(name, list(self.infos)) is not None:
            return False
        return any(row.fields.has(name) for row in self.rows)

    def reader(self, name: str) -> _Source | None:
        """A column that is neither a field nor a metric: a cost, a fact or the paper's own."""
        if cost_name(name) and name not in self.infos:
            return _Source(cost_column(name), read=lambda row: self.costs.asked(row, name))
        if fact_name(name):
            column = fact_column(name)
            return _Source(column, read=lambda row: fact_cell(self.results, row, name))
        if name.startswith(PUBLISHED) and (beside := self.beside):
            own = name.removeprefix(PUBLISHED)
            return _Source(published_column(name), read=lambda row: beside.text(row, own))
        return None

    def default_fields(self) -> list[str]:
        """The label and NFE, and what else tells the rows apart."""
        varying = [n for n in ("backbone", "seeds") if len({r.get(n) for r in self.rows}) > 1]
        shown = [*varying, "nfe"] + ["updates" for r in self.rows if not r.first.final]
        names = [n for n in ("backbone", "nfe", "updates", "seeds") if n in shown]
        return ["label", *(n for n in names if n != self.group_by)]

    def expand(self, name: str) -> list[_Source]:
        """The column, its category columns and its published twins."""
        if self.is_field(name):
            head = _HEADS.get(name) or name.rpartition(".")[2].replace("_", " ")
            return [_Source(Column(name, head, "field"))]
        if reader := self.reader(name):
            return [reader]
        metric, suffix = find_metric(name, list(self.infos)) or (name, "")
        found = self.results.suffixes(self.rows, metric)
        suffix = next((s for s in found if normalise(s) == normalise(suffix)), suffix)
        info = self.infos.get(metric)
        if self.config.per_category and info and info.per_category and not suffix and found:
            whole = "Average" if self.results.even(self.rows, metric, found) else "All prompts"
            parts = [*((s, _heading(s)) for s in found), ("", whole)]
            return [s for p, head in parts for s in self.twins(metric, p, head, info.label)]
        head = " ".join(filter(None, [self.label(metric), _heading(suffix)]))
        return self.twins(metric, suffix, head, "")

    def twins(self, metric: str, suffix: str, head: str, span: str) -> list[_Source]:
        """Our column and, where the table has one, the paper's."""
        key = f"{metric}_{normalise(suffix)}" if suffix else metric
        info = self.infos.get(metric)
        higher = info.higher_is_better if info else None
        direction: Direction = "" if higher is None else "up" if higher else "down"
        ours = _Source(Column(key, head, "number", span, direction), metric, suffix)
        beside, as_printed = self.beside, f"{PUBLISHED}{key}" in self.config.columns
        if beside is None or as_printed or not beside.has(key, self.rows):
            return [ours]
        column = Column(f"{key}_paper", "paper", "published", span)
        return [ours, _Source(column, read=lambda row: beside.number(row, key, metric))]

    def label(self, metric: str) -> str:
        """The metric's column head."""
        return self.infos[metric].label if metric in self.infos else metric

    # ---- cells --------------------------------------------------------------------------

    def cell(self, row: Row, source: _Source) -> Entry:
        """The cell of `row` in a column."""
        if source.read is not None:
            return source.read(row)
        if source.column.kind == "field":
            return Entry(self.shown(row, source.column.key), row.get(source.column.key))
        return self.number(row, source, self.results.value(row, source.metric, source.suffix))

    def shown(self, row: Row, field: str) -> str:
        """A row field as text."""
        value = row.get(field)
        if field == "backbone":
            return self.backbones.get(str(value), str(value))
        return plain(value) if row.fields.has(field) else MISSING

    def number(self, row: Row, source: _Source, value: Value) -> Entry:
        """A measured number, or `--` with the reason as a footnote."""
        beside = against(self.results.plan, row, source.metric)
        floor = FLOOR[self.reference_noise] if beside and beside.floor else ""
        marks = self.footnotes.marks([value.missing, floor])
        runs = tuple(self.run(cell, source.metric) for cell in row.cells)
        if value.value is None:
            return Entry(MISSING, marks=marks, runs=runs)
        info = self.infos.get(source.metric)
        spec = info.format if info else ".4g"
        error = "" if value.stderr is None else format(value.stderr, spec)
        text = format(value.value, spec)
        if text.startswith("-") and not text.strip("-0.,%"):
            text = text[1:]  # a zero has no sign
        return Entry(
            text, value.value, value.stderr, error, value.stderr_over, value.n,
            partial=bool(value.missing), marks=marks, runs=runs,
            against=beside.comparable if beside else "",
        )  # fmt: skip

    def run(self, cell: Cell, metric: str) -> Run:
        """The stage keys of one seed."""
        key = cell.scores.get(metric, "")
        stage = self.results.plan.stages.get(key)
        reference = (stage.read(ScoreSpec).reference if stage else "") or ""
        return Run(cell.seed, cell.train, cell.sample, key, reference)


def build_table(
    config: TableConfig, experiment: Experiment, results: Results, infos: Mapping[str, MetricInfo]
) -> Table:
    """Build one table. Raises MixedProtocols when a column would mix ways of measuring."""
    return _Builder(config, experiment, results, infos).build()


def _heading(suffix: str) -> str:
    return suffix.replace("-", " ").replace("_", " ").capitalize() if suffix else ""
