"""The losses of trainings, thinned to what a page can draw."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from distillbench.analysis.aggregate import Results
from distillbench.analysis.losses import read_losses

__all__ = ["loss_curves"]

NUMBERS = 120_000
"""The most numbers of all curves together; each keeps its first and last step."""
_FEWEST = 20


def loss_curves(results: Results) -> list[dict[str, Any]]:
    """One for each finished training: its name, its steps, and by loss the value at each step."""
    found: dict[str, tuple[str, list[dict[str, Any]]]] = {}
    several = len({cell.backbone for cell in results.plan.cells}) > 1
    for cell in results.plan.cells:
        if not cell.final or not cell.train:
            continue
        if cell.train not in found and results.store.is_done("train", cell.train):
            rows = read_losses(results.store.path("train", cell.train) / "train.jsonl")
            backbone = f" ({cell.backbone})" if several else ""
            if rows:
                found[cell.train] = f"{cell.name}{backbone}, seed {cell.seed}", rows
    total = sum(len(rows) * len(rows[-1]) for _, rows in found.values())
    share = min(1.0, NUMBERS / total) if total else 1.0
    names = _distinct([name for name, _ in found.values()])
    parts = [_columns(_thinned(rows, share)) for _, rows in found.values()]
    return [{"name": name, **part} for name, part in zip(names, parts, strict=True)]


def _distinct(names: Sequence[str]) -> list[str]:
    """Names of their own for all: the second of one gets its number."""
    seen: Counter[str] = Counter()
    made = []
    for name in names:
        seen[name] += 1
        made.append(f"{name} ({seen[name]})" if seen[name] > 1 else name)
    return made


def _thinned(rows: Sequence[Mapping[str, Any]], share: float) -> list[Mapping[str, Any]]:
    """About `share` of the lines, evenly, ends included."""
    wanted = max(_FEWEST, int(len(rows) * share))
    if len(rows) <= wanted:
        return list(rows)
    places = {round(i * (len(rows) - 1) / (wanted - 1)) for i in range(wanted)}
    return [rows[place] for place in sorted(places)]


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = dict.fromkeys(name for row in rows for name in row if name != "step")
    return {
        "steps": [row["step"] for row in rows],
        "losses": {name: [_short(row.get(name)) for row in rows] for name in names},
    }


def _short(value: Any) -> float | None:
    """Five significant digits are more than a plot shows; None for what is no finite number."""
    good = isinstance(value, (int, float)) and math.isfinite(value)
    return float(f"{value:.5g}") if good else None
