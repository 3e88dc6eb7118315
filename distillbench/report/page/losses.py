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
    """One for each finished training: its row, its seed, its steps, and by loss the values there.

    Trainings of one name are the seeds of one row.
    """
    found: dict[str, tuple[tuple[str, int], list[dict[str, Any]]]] = {}
    several = len({cell.backbone for cell in results.plan.cells}) > 1
    for cell in results.plan.cells:
        if not cell.final or not cell.train:
            continue
        if cell.train not in found and results.store.is_done("train", cell.train):
            rows = read_losses(results.store.path("train", cell.train) / "train.jsonl")
            backbone = f" ({cell.backbone})" if several else ""
            if rows:
                found[cell.train] = (f"{cell.name}{backbone}", cell.seed), rows
    total = sum(len(rows) * len(rows[-1]) for _, rows in found.values())
    share = min(1.0, NUMBERS / total) if total else 1.0
    names = _distinct([run for run, _ in found.values()])
    parts = [_columns(_thinned(rows, share)) for _, rows in found.values()]
    return [{"name": name, "seed": seed, **part}
            for (name, seed), part in zip(names, parts, strict=True)]  # fmt: skip


def _distinct(runs: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Names that say each seed once: the second of one name and seed gets its number."""
    seen: Counter[tuple[str, int]] = Counter()
    made = []
    for name, seed in runs:
        seen[name, seed] += 1
        count = seen[name, seed]
        made.append((f"{name} ({count})" if count > 1 else name, seed))
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
