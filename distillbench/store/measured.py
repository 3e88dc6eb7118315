"""What was measured of a training's samples by one recipe, as its store has it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distillbench.api.sampler import Sampler
from distillbench.api.samplers import from_recipe
from distillbench.errors import ArtifactError, BadInput
from distillbench.specs.stored import StoredStage
from distillbench.store.runs import placed_part

__all__ = ["Measured", "measured"]


@dataclass(frozen=True)
class Measured:
    """A metric's value of n samples; `stderr` where the metric has one of its own."""

    label: str
    value: float
    n: int
    stderr: float | None = None


def measured(
    folder: Path, sampler: Sampler, placed: Mapping[str, Any] | None = None
) -> list[Measured]:
    """The scores of samples that a training's student made by a recipe.

    Args:
        placed: what it was sampled with beside its own weights, see `placed_part`; by default
            nothing.
    """
    store = folder.resolve().parent.parent
    samples = {
        key for key, stage in _stages(store / "sample", folder.resolve().name)
        if placed_part(stage.spec) == dict(placed or {}) and _same(stage, sampler)
    }  # fmt: skip
    found: list[Measured] = []
    for sample in sorted(samples):
        for key, _ in _stages(store / "score", sample):
            found += _values(store / "score" / key)
    return sorted(found, key=lambda one: (one.label, one.n))


def _stages(shelf: Path, of: str) -> Iterator[tuple[str, StoredStage]]:
    """Stages of a shelf that were made of one stage."""
    for path in sorted(shelf.glob("*/spec.json")):
        try:
            text = path.read_text(encoding="utf-8")
            if of not in text or "." in path.parent.name:
                continue
            stage = StoredStage.of(json.loads(text), path)
        except (OSError, ValueError, ArtifactError):
            continue  # damage is told where it is used
        if of in (stage.spec.get("train"), stage.spec.get("sample")):
            yield path.parent.name, stage


def _same(stage: StoredStage, sampler: Sampler) -> bool:
    try:
        return stage.glance.sampler is not None and from_recipe(stage.glance.sampler) == sampler
    except (BadInput, ValueError):
        return False


def _values(folder: Path) -> Iterator[Measured]:
    try:
        label = json.loads((folder / "protocol.json").read_text(encoding="utf-8"))["label"]
        lines = (folder / "scores.jsonl").read_text(encoding="utf-8").splitlines()
        for row in map(json.loads, lines):
            if row["kind"] == "aggregate" and row["column"] == "":
                yield Measured(label, float(row["value"]), int(row["n"]), row.get("stderr"))
    except (OSError, ValueError, KeyError, TypeError):
        return
