"""Results as tidy rows: one value of one sample a line, one measured cost of one run a line.

The cost table and the frames of `distillbench.python` are made of these. No pandas here, which
would cost every table half a second; sums over them are `analysis.stats`' own and exact.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from distillbench.analysis.aggregate import Results
from distillbench.analysis.rows import Row
from distillbench.plan.stage import Cell, StageKind

__all__ = ["COSTS", "Cost", "Spent", "ValueRow", "measured", "spent", "stage_cost"]

Cost = Mapping[str, Any]


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


def _evaluations(role: str) -> Callable[[Cost], float | None]:
    def read(cost: Cost) -> float | None:
        count: float | None = cost.get("evaluations", {}).get(role)
        return count

    return read


def _other_evaluations(cost: Cost) -> float | None:
    known = cost.get("evaluations", {})
    rest = [n for role, n in known.items() if role not in ("teacher", "student")]
    return sum(rest) if rest else None


def _memory(cost: Cost) -> float | None:
    peak = cost.get("peak_memory_bytes")
    return None if peak is None else peak / 2**20


def _per_sample(cost: Cost) -> float | None:
    return 1000 * cost["seconds"] / cost["samples"] if cost.get("samples") else None


def _device_hours(cost: Cost) -> float | None:
    """Of all devices that a data-parallel training ran on (TDM, arXiv 2503.06674, table 3)."""
    return cost["seconds"] * cost.get("processes", 1) / 3600 if "seconds" in cost else None


def _plain(name: str) -> Callable[[Cost], float | None]:
    return lambda cost: cost.get(name)


COSTS: Mapping[str, tuple[StageKind, Callable[[Cost], float | None]]] = {
    "train_seconds": ("train", _plain("seconds")),
    "train_cpu_seconds": ("train", _plain("cpu_seconds")),
    "device_hours": ("train", _device_hours),
    "student_updates": ("train", _plain("student_updates")),
    "teacher_nfe": ("train", _evaluations("teacher")),
    "student_nfe": ("train", _evaluations("student")),
    "other_nfe": ("train", _other_evaluations),
    "peak_memory_mib": ("train", _memory),
    "sample_ms": ("sample", _per_sample),
}
"""Measure -> the stage whose cost.json has it, and how it is got from there."""


def stage_cost(results: Results, kind: StageKind, key: str) -> Cost | str:
    """The cost.json of a stage, or why there is none; of no stage, "", what costs nothing."""
    if not key:  # nothing was trained here
        return {"device": ""}
    if not results.store.is_done(kind, key):
        return results.missing_stage(key)
    path = results.store.path(kind, key) / "cost.json"
    try:
        cost: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return f"{kind} stage {key[:8]} has no readable cost.json"
    return cost


def spent(results: Results) -> Iterator[Spent]:
    """Every measured cost, in the order of plan, measure and seed."""
    for row in results.rows:
        for measure, (kind, read) in COSTS.items():
            for cell in row.cells:
                key = cell.train if kind == "train" else cell.sample
                cost = stage_cost(results, kind, key)
                value = None if isinstance(cost, str) else read(cost)
                if value is not None:
                    yield Spent(*_run(row, cell), measure, float(value))
