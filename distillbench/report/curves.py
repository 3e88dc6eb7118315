"""Curves: a metric over a field of the rows, with the spread of the seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count, cycle
from pathlib import Path
from typing import TYPE_CHECKING

from distillbench.analysis.aggregate import MixedProtocols, Results, Value
from distillbench.analysis.columns import backbone_labels, find_metric
from distillbench.analysis.costs import COSTS, cost_name
from distillbench.analysis.references import Against, against
from distillbench.analysis.rows import Row
from distillbench.api.metric import MetricInfo
from distillbench.experiment.outputs import FigureConfig
from distillbench.experiment.schema import Experiment
from distillbench.report.cost import Costs, cost_column
from distillbench.report.strips import without_term
from distillbench.report.style import COLOURS, MARKERS, new_figure, save
from distillbench.report.table import Footnotes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_curve", "refused_curves"]


PARTIAL = ", part of the seeds"
NOISE = ", to other noise"
OWN = ", each to its own reference"
INSIDE = 6
"""The most lines whose legend is drawn inside the axes."""


@dataclass(frozen=True)
class _Point:
    """Mean over seeds at x, with the lowest and highest seed; `partial` where a seed is missing."""

    x: float
    y: float
    low: float
    high: float
    partial: bool = False


def refused_curves(
    experiment: Experiment, results: Results, infos: Mapping[str, MetricInfo]
) -> dict[str, str]:
    """Curves whose points were measured in different ways: name -> why."""
    refused = {}
    for config in experiment.figures:
        found = find_metric(config.y, list(infos)) if config.kind == "curve" else None
        try:
            if found:
                results.protocol(results.select(config.where, _named(config.x)), found[0])
        except MixedProtocols as error:
            refused[config.name] = error.line
    return refused


def _named(x: str) -> tuple[str, ...]:
    """The fields that an axis names: what training cost is of snapshots too (TDM, figure 9)."""
    of_training = cost_name(x) in COSTS and COSTS[cost_name(x)][0] == "train"
    return (x, "updates") if of_training else (x,)


def draw_curve(
    config: FigureConfig, experiment: Experiment, results: Results,
    infos: Mapping[str, MetricInfo], folder: Path,
) -> list[Path]:  # fmt: skip
    """Draw `y` over `x`, one line per row name and backbone; returns the .png and .pdf paths."""
    metric, suffix = find_metric(config.y, list(infos)) or (config.y, "")
    info = infos.get(metric)
    figure = new_figure(4.8, 3.4)
    axes = figure.add_subplot()
    rows = results.select(config.where, _named(config.x))
    ticks: set[float] = set()
    sides = {row.index: against(results.plan, row, metric) for row in rows}
    series = _series(config.x, rows, experiment, _other_noise(sides))
    for number, (name, members) in enumerate(series.items()):
        points = sorted(_points(results, members, config.x, metric, suffix), key=lambda p: p.x)
        ranked, alone = members[0].first.ranked, len({point.x for point in points}) == 1
        own = config.x in ("nfe", "updates") or bool(cost_name(config.x))
        if not ranked and (alone or not own):
            values = [results.value(row, metric, suffix) for row in members]
            _levels(axes, name, members, values)
        elif points:
            _draw(axes, number, name, points, ranked=ranked)
            ticks |= {point.x for point in points}
    label = " ".join(filter(None, [info.label if info else metric, suffix]))
    own = len({side.key for side in sides.values() if side}) > 1
    _dress(axes, config.x, label + OWN * own, info, sorted(ticks))
    return save(figure, folder / config.name, (".png", ".pdf"))


def _other_noise(sides: Mapping[int, Against | None]) -> dict[int, str]:
    """Words for rows, by index, that are compared with other noise than others here: floors."""
    noises = {side.noise for side in sides.values() if side}
    other = [index for index, side in sides.items() if side and side.noise == "other"]
    return dict.fromkeys(other, NOISE) if len(noises) > 1 else {}


def _series(
    x: str, rows: Sequence[Row], experiment: Experiment, apart: Mapping[int, str] | None = None
) -> dict[str, list[Row]]:
    """Rows by the name of their line: what tells them apart beside the axis, and `apart`."""
    backbones = len({row.first.backbone for row in rows}) > 1
    lines = [row for row in rows if _is_line(x, row)]
    steps = x != "nfe" and not cost_name(x) and len({row.first.nfe for row in lines}) > 1
    labels = backbone_labels(experiment)
    series: dict[str, list[Row]] = {}
    for row in rows:
        name, first = without_term(row.name, x), row.first
        name += f" ({labels.get(first.backbone, first.backbone)})" if backbones else ""
        name += f", NFE {first.nfe}" if steps and row in lines else ""
        name += (apart or {}).get(row.index, "")
        name = _free(name, row, x, series) if row in lines else name
        series.setdefault(name, []).append(row)
    return series


def _free(name: str, row: Row, x: str, series: Mapping[str, Sequence[Row]]) -> str:
    """The name, numbered where another run of that name has a point at the same x."""
    if cost_name(x):
        return name
    numbered = (f"{name} ({n})" if n > 1 else name for n in count(1))
    return next(n for n in numbered if all(r.get(x) != row.get(x) for r in series.get(n, ())))


def _is_line(x: str, row: Row) -> bool:
    """Whether a row is a point of a line; a teacher has one only where it was trained further."""
    return row.first.ranked or (x == "updates" and row.first.updates > 0) or bool(cost_name(x))


def _levels(
    axes: Axes, name: str, rows: Sequence[Row], values: Sequence[Value]
) -> None:  # fmt: skip
    """Teachers off the axis are levels, not curves."""
    for style, row, value in zip(cycle((":", "-.", "--")), rows, values, strict=False):
        if value.value is not None:
            steps = f", NFE {row.first.nfe}"
            label = " " * name.startswith("_") + name.removesuffix(steps) + steps
            label += PARTIAL * bool(value.missing)
            axes.axhline(value.value, color="0.45", linestyle=style, linewidth=1.2, label=label)


def _points(
    results: Results, rows: list[Row], x: str, metric: str, suffix: str
) -> list[_Point]:  # fmt: skip
    points, costs = [], Costs(results, Footnotes())
    for row in rows:
        place = costs.asked(row, x).value if cost_name(x) else row.get(x)
        value = results.value(row, metric, suffix)
        if value.value is None or not isinstance(place, (int, float)):
            continue
        scores = [s.score for s in results.scores(row, metric) if s.score]
        seeds = [s.aggregate[suffix][0] for s in scores if suffix in s.aggregate]
        finite = [v for v in seeds if math.isfinite(v)]
        points.append(
            _Point(float(place), value.value, min(finite), max(finite), bool(value.missing))
        )
    return points


def _draw(axes: Axes, number: int, name: str, points: list[_Point], *, ranked: bool) -> None:
    colour = COLOURS[number % len(COLOURS)] if ranked else "0.45"
    again = number // len(COLOURS)  # a colour's second line is told by marker and dashes
    style = ("-", "-.", ":")[min(again, 2)] if ranked else "--"
    name = f" {name}" if name.startswith("_") else name  # else the legend leaves it out
    xs, ys = [p.x for p in points], [p.y for p in points]
    axes.plot(
        xs, ys, color=colour, linestyle=style, label=name, linewidth=1.4,
        marker=MARKERS[(number + again) % len(MARKERS)], markersize=4.5,
    )  # fmt: skip
    if partial := [p for p in points if p.partial]:
        axes.plot(
            [p.x for p in partial], [p.y for p in partial], color=colour, linestyle="none",
            marker=MARKERS[(number + again) % len(MARKERS)], markersize=4.5,
            markerfacecolor="white", label=name + PARTIAL,
        )  # fmt: skip
    lows, highs = [p.low for p in points], [p.high for p in points]
    if lows != highs:
        axes.fill_between(xs, lows, highs, color=colour, alpha=0.15, linewidth=0)


def _dress(axes: Axes, x: str, label: str, info: MetricInfo | None, ticks: Sequence[float]) -> None:
    better = {True: " (higher is better)", False: " (lower is better)", None: ""}
    axes.set_ylabel(label + better[info.higher_is_better if info else None])
    plain = cost_column(x).label if cost_name(x) else x.rpartition(".")[2].replace("_", " ")
    axes.set_xlabel("NFE" if x == "nfe" else plain)
    if x == "nfe" and len(ticks) > 1:
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    if axes.get_lines():
        many = len(axes.get_lines()) > INSIDE  # a long legend would lie on the lines
        beside = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)} if many else {}
        axes.legend(fontsize=7, frameon=False, **beside)
    else:
        axes.text(0.5, 0.5, "nothing measured yet", ha="center", transform=axes.transAxes)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.5)
