"""Results as tidy rows: one value of one sample a line, one measured cost of one run a line.

The cost table and the frames of `distillbench.python` are made of these. No pandas here, which
would cost every table half a second; sums over them are `analysis.stats`' own and exact.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from distillbench.analysis.aggregate import Results
from distillbench.analysis.costs import COSTS, Cost
from distillbench.analysis.rows import Row
from distillbench.plan.stage import Cell, StageKind
from distillbench.specs.stages import TrainSpec

__all__ = ["Spent", "StageCosts", "ValueRow", "measured", "spent"]


@dataclass(frozen=True)
class ValueRow:
    """One value of one sample, or of a whole sample set.

    Attributes:
        row, backbone, nfe, updates, seed: which samples.
        metric: the column: `hps`, or `<metric>_<suffix>`.
        prompt, category: of the sample; "" for a whole set.
        sample: its number; None for a whole set, as of FID.
        value: the metric's.
    """

    row: str
    backbone: str
    nfe: int
    updates: int
    seed: int
    metric: str
    prompt: str
    category: str
    sample: int | None
    value: float


@dataclass(frozen=True)
class Spent:
    """One measured cost of one run; `measure` is a column of the cost table."""

    row: str
    backbone: str
    nfe: int
    updates: int
    seed: int
    measure: str
    value: float


def measured(results: Results) -> Iterator[ValueRow]:
    """Every finite value, in the order of plan, metric, seed and sample.

    A column that has a value a sample has these, any other that of the whole set.
    """
    for row in results.rows:
        for metric in row.first.scores:
            for scored in results.scores(row, metric):
                if scored.score is None:
                    continue
                for suffix, (value, _) in scored.score.aggregate.items():
                    name = f"{metric}_{suffix}" if suffix else metric
                    run = _run(row, scored.cell)
                    samples = scored.score.samples(suffix)
                    for s in samples:
                        yield ValueRow(*run, name, s.prompt, s.category, s.number, s.value)
                    if not samples:
                        yield ValueRow(*run, name, "", "", None, value)


def _run(row: Row, cell: Cell) -> tuple[str, str, int, int, int]:
    return row.name, cell.backbone, cell.nfe, cell.updates, cell.seed


# ---- costs ---------------------------------------------------------------------------------


class StageCosts:
    """cost.json of the stages behind cells, each read once."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._found: dict[str, Cost | str] = {}

    def of(self, cell: Cell, kind: StageKind) -> Cost | str:
        """A stage's costs, or why there are none; of no stage, "", what costs nothing."""
        key = cell.train if kind == "train" else cell.sample
        if key not in self._found:
            self._found[key] = self._read(kind, key)
        return self._found[key]

    def _read(self, kind: StageKind, key: str) -> Cost | str:
        if not key:  # nothing was trained here
            return {"device": ""}
        if not self._results.store.is_done(kind, key):
            return self._results.missing_stage(key)
        path = self._results.store.path(kind, key) / "cost.json"
        try:
            cost: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return f"{kind} stage {key[:8]} has no readable cost.json"
        return {**cost, **self._asked(kind, key)}

    def _asked(self, kind: StageKind, key: str) -> Cost:
        """What the spec of a training says of its price."""
        if kind != "train":
            return {}
        train = self._results.plan.stages[key].read(TrainSpec).train
        return {"samples_per_update": train.batch_size * train.accumulate * train.processes}


def spent(results: Results) -> Iterator[Spent]:
    """Every measured cost, in the order of plan, measure and seed."""
    costs = StageCosts(results)
    for row in results.rows:
        for measure, (kind, read) in COSTS.items():
            for cell in row.cells:
                cost = costs.of(cell, kind)
                value = None if isinstance(cost, str) else read(cost)
                if value is not None:
                    yield Spent(*_run(row, cell), measure, float(value))
