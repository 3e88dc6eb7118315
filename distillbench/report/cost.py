"""The cost table: measured seconds, memory and network evaluations, apart from all quality."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from distillbench.analysis import costs, stats
from distillbench.analysis.aggregate import Results
from distillbench.analysis.columns import backbone_labels
from distillbench.analysis.costs import COSTS, PREFIX, Cost, cost_name
from distillbench.analysis.rows import Row
from distillbench.analysis.tidy import StageCosts
from distillbench.experiment.schema import Experiment
from distillbench.plan.stage import StageKind
from distillbench.report.table import MISSING, Column, Entry, Footnotes, Line, Run, Table
from distillbench.specs.stages import TrainSpec

__all__ = ["MEASURED", "Costs", "Measure", "cost_column", "cost_table"]


@dataclass(frozen=True)
class Measure:
    """One cost column: which stage it reads, and how a number is got from its cost.json."""

    column: Column
    kind: StageKind
    read: Callable[[Cost], float | None]
    format: str = ",.0f"

    @property
    def as_asked(self) -> Column:
        """Its column in a table that asks for it by name."""
        head = f"{self.column.span} {self.column.label}".strip()
        return Column(f"{PREFIX}{self.column.key}", head, "number")


def _measure(key: str, label: str, span: str, spec: str = ",.0f") -> Measure:
    return Measure(Column(key, label, "number", span), *COSTS[key], spec)


MEASURED = (
    _measure("train_seconds", "wall s", "Training", ",.1f"),
    _measure("train_cpu_seconds", "CPU s", "Training", ",.1f"),
    _measure("device_hours", "device-hours", "Training", ".3g"),
    _measure("compute_hours", "CPU- or GPU-hours", "Training", ",.3g"),
    _measure("student_updates", "student updates", "Training"),
    _measure("train_samples", "samples", "Training"),
    _measure("teacher_nfe", "teacher", "Evaluations"),
    _measure("student_nfe", "student", "Evaluations"),
    _measure("other_nfe", "other nets", "Evaluations"),
    _measure("peak_memory_mib", "peak MiB", "Memory"),
    _measure("sample_ms", "ms per sample", "Sampling", ",.2f"),
)
_OF_A_SAMPLE = ("sample_ms", "evaluations")
EVALUATIONS = Column("evaluations", "Evaluations per sample", "field")
_DEVICE = Column("device", "Device", "field")
_NOTES = (
    "Means over seeds of what the stages measured while they ran; other work on the machine is in "
    "the wall seconds. Rows that differ in sampling alone share one training.",
    "Evaluations: samples sent through each network during training; a guided evaluation of the "
    "teacher counts both of its branches. Evaluations per sample: of the network when sampling; a "
    "guided one counts both of its branches, where NFE counts one.",
)
LOADING = (
    "with the loading of networks before the first sample, which newer runs leave out: not "
    "comparable with theirs"
)
_LINKED = "A run that a row starts from, as its teacher or its student, is not in that row's costs."


def cost_table(experiment: Experiment, results: Results) -> Table:
    """What each row cost to train and to sample; never part of a quality table."""
    footnotes, labels = Footnotes(), backbone_labels(experiment)
    fields = (
        Column("label", "Method", "field"), Column("backbone", "Backbone", "field"),
        Column("nfe", "NFE", "field"), Column("seeds", "Seeds", "field"),
    )  # fmt: skip
    found = Costs(results, footnotes)
    lines = []
    for row in results.select({}):
        backbone = labels.get(row.first.backbone, row.first.backbone)
        heads = (row.name, backbone, row.first.nfe, len(row.cells))
        cells = [Entry(str(value), value) for value in heads]
        cells += [found.cell(row, measure) for measure in MEASURED]
        cells.append(_count(row))
        lines.append(Line((*cells, found.device(row)), row.first.group, row.first.ranked))
    last = EVALUATIONS, _DEVICE
    columns = (*fields, *(m.column for m in MEASURED), *last)
    caption = f"Measured cost of {experiment.title or experiment.name}"
    notes = (*_NOTES, *_linked_note(results, results.rows))
    return Table("cost", caption, columns, tuple(lines), footnotes.all, notes)


def _linked_note(results: Results, rows: Iterable[Row]) -> list[str]:
    """That other trainings are behind some rows, where they are."""
    keys = {cell.train for row in rows for cell in row.cells}
    specs = [stage.read(TrainSpec) for key in keys if (stage := results.plan.stages.get(key))]
    return [_LINKED] if any(spec.teacher or spec.init for spec in specs) else []


def _count(row: Row) -> Entry:
    return Entry(str(row.evaluations), row.evaluations)


def cost_column(field: str) -> Column:
    """The column of a cost that a table asks for by name; never ranked."""
    measure = measure_of(field)
    return measure.as_asked if measure else replace(EVALUATIONS, key=field, kind="number")


def measure_of(field: str) -> Measure | None:
    """What is measured of a cost that a column or an axis names; None for evaluations a sample."""
    return next((m for m in MEASURED if m.column.key == cost_name(field)), None)


class Costs:
    """cost.json of the stages behind the cells."""

    def __init__(self, results: Results, footnotes: Footnotes) -> None:
        self.footnotes, self.results = footnotes, results
        self.read = StageCosts(results).of

    def asked(self, row: Row, field: str) -> Entry:
        """The cost that a column or an axis names."""
        measure = measure_of(field)
        return self.cell(row, measure) if measure else _count(row)

    def cell(self, row: Row, measure: Measure) -> Entry:
        """Mean over the seeds that have the measure."""
        runs = tuple(Run(c.seed, c.train, c.sample) for c in row.cells)
        found = [self.read(cell, measure.kind) for cell in row.cells]
        costs_of = [cost for cost in found if not isinstance(cost, str)]
        told = [f for f in found if isinstance(f, str)]
        told += [LOADING for c in costs_of if costs.has_loading(measure.column.key, c)]
        marks = self.footnotes.marks(dict.fromkeys(told))
        read = [measure.read(cost) for cost in costs_of]
        values = [float(value) for value in read if value is not None]
        if not values:
            return Entry(MISSING, marks=marks, runs=runs)
        value = stats.mean(values)
        return Entry(format(value, measure.format), value, n=len(values), marks=marks, runs=runs)

    def notes(self, rows: Sequence[Row], columns: Iterable[str]) -> list[str]:
        """What a reader must know of columns that another run measures otherwise."""
        asked = {cost_name(column) for column in columns} - {""}
        linked = _linked_note(self.results, rows) if asked - {*_OF_A_SAMPLE} else []
        if not asked & {*costs.MEASURED}:
            return linked
        devices = dict.fromkeys(self.device(row).text for row in rows)
        return [
            f"Costs were measured on {'; '.join(devices)}, and differ from run to run.",
            *linked,
        ]

    def device(self, row: Row) -> Entry:
        """The devices it ran on."""
        found = [self.read(cell, kind) for cell in row.cells for kind in ("train", "sample")]
        names = dict.fromkeys(str(f["device"]) for f in found if not isinstance(f, str))
        text = ", ".join(names) or MISSING
        return Entry(text, text)
