"""Rows as points: what they are, what they scored and what they cost, for the page's plots."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from distillbench.analysis.aggregate import MixedProtocols, Results
from distillbench.analysis.columns import backbone_labels
from distillbench.analysis.references import against
from distillbench.analysis.rows import Row
from distillbench.api.metric import MetricInfo
from distillbench.experiment.schema import Experiment
from distillbench.report.cost import MEASURED, Costs
from distillbench.report.table import Footnotes

__all__ = ["metric_choices", "row_points"]

_UNTOLD = ("metric", "version", "revision")


def metric_choices(results: Results, infos: Mapping[str, MetricInfo]) -> list[dict[str, Any]]:
    """What a plot's axis can be: a metric, once for each way in which rows measured it.

    Values that were measured in different ways, or are distances to different references, are
    never on one axis. Each choice has the indices of the rows that it is of.
    """
    choices = []
    for metric, info in infos.items():
        ways: dict[str, tuple[dict[str, Any], list[int]]] = {}
        for row in results.rows:
            way = _way(results, row, metric)
            if way is not None:
                ways.setdefault(json.dumps(way, sort_keys=True, default=str), (way, []))[1].append(
                    row.index
                )
        names = _told_apart([way for way, _ in ways.values()])
        for name, (_, rows) in zip(names, ways.values(), strict=True):
            label = f"{info.label} ({name})" if name else info.label
            choices.append({"id": metric, "label": label, "higher": info.higher_is_better,
                            "format": info.format, "rows": rows})  # fmt: skip
    return choices


def _way(results: Results, row: Row, metric: str) -> dict[str, Any] | None:
    """How the row's value was measured; None where it has none, or its seeds differ in it."""
    try:
        protocol = results.protocol([row], metric)
    except MixedProtocols:
        return None
    if results.value(row, metric).value is None:
        return None
    side = against(results.plan, row, metric)
    return {**protocol, "reference": side.comparable if side else ""}


def _told_apart(ways: Sequence[Mapping[str, Any]]) -> list[str]:
    """Words for that in which the ways differ; "" where there is one only."""
    if len(ways) < 2:
        return [""] * len(ways)
    fields = dict.fromkeys(name for way in ways for name in way if name not in _UNTOLD)
    differ = [f for f in fields if f != "reference" and len({str(w.get(f)) for w in ways}) > 1]
    names = [", ".join(f"{f} {w[f]}" for f in differ if w.get(f) is not None) for w in ways]
    if len(set(names)) == len(names):
        return names
    numbered = (f"reference {n}" for n in range(1, len(ways) + 1))
    return [", ".join(filter(None, [name, number])) for name, number in zip(names, numbered)]


def row_points(
    experiment: Experiment, results: Results, infos: Mapping[str, MetricInfo]
) -> list[dict[str, Any]]:
    """Every row of the plan, students on the way too."""
    costs, labels = Costs(results, Footnotes()), backbone_labels(experiment)
    several = len({row.first.backbone for row in results.rows}) > 1
    points = []
    for row in results.rows:
        cell = row.first
        backbone = labels.get(cell.backbone, cell.backbone)
        points.append({
            "name": f"{row.name} ({backbone})" if several else row.name,
            "group": cell.group, "nfe": cell.nfe, "evaluations": row.evaluations,
            "updates": cell.updates, "final": cell.final, "ranked": cell.ranked,
            "seeds": list(row.seeds),
            "varied": {k: v for k, v in cell.varied.items() if _is_number(v)},
            "metrics": {m: _value(results, row, m) for m in infos},
            "cost": {m.column.key: costs.cell(row, m).value for m in MEASURED},
        })  # fmt: skip
    return points


def _value(results: Results, row: Row, metric: str) -> dict[str, Any] | None:
    """Mean, standard error and the single seeds of a metric, None where there is no mean."""
    value = results.value(row, metric)
    if value.value is None:
        return None
    aggregates = [s.score.aggregate for s in results.scores(row, metric) if s.score]
    seeds = [a[""][0] for a in aggregates if "" in a and math.isfinite(a[""][0])]
    return {"value": value.value, "stderr": value.stderr, "over": value.stderr_over,
            "n": value.n, "seeds": seeds, "partial": bool(value.missing)}  # fmt: skip


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
