"""Read what a score stage left in the store: aggregates, per-sample values and the protocol."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from distillbench.errors import ArtifactError
from distillbench.files.leaves import leaves

__all__ = ["Sample", "Score", "read_score"]


class Sample(NamedTuple):
    """One scored sample; its number in the prompt set pairs it with the same noise elsewhere."""

    number: int
    prompt: str
    category: str
    value: float


@dataclass(frozen=True)
class Score:
    """One score stage.

    Attributes:
        folder: its folder in the store.
        rows: the lines of scores.jsonl.
        protocol: what must agree before two values may share a column, flattened to dotted keys.
    """

    folder: Path
    rows: tuple[Mapping[str, Any], ...]
    protocol: Mapping[str, Any]

    @cached_property
    def aggregate(self) -> Mapping[str, tuple[float, int]]:
        """Column suffix ("" is the metric's own) -> (value, number of samples)."""
        found = {}
        for row in self.rows:
            if row["kind"] == "aggregate":
                value = math.nan if row["value"] is None else float(row["value"])
                found[row["column"]] = (value, int(row["n"]))
        return found

    @cached_property
    def stderr(self) -> Mapping[str, float]:
        """Column suffix -> standard error, where the metric gave its own (a jackknife)."""
        own = (r for r in self.rows if r["kind"] == "aggregate" and r.get("stderr") is not None)
        return {row["column"]: float(row["stderr"]) for row in own}

    @cached_property
    def _samples(self) -> Mapping[str, tuple[Sample, ...]]:
        found: dict[str, list[Sample]] = {}
        for row in self.rows:
            if row["kind"] == "sample" and row["value"] is not None:
                sample = Sample(row["index"], row["prompt"], row["category"], row["value"])
                found.setdefault(row["column"], []).append(sample)
        return {column: tuple(samples) for column, samples in found.items()}

    @cached_property
    def _blocks(self) -> Mapping[str, tuple[float, ...]]:
        found: dict[str, list[float]] = {}
        for row in self.rows:
            if row["kind"] == "block":
                found.setdefault(row["column"], []).append(float(row["value"]))
        return {column: tuple(values) for column, values in found.items()}

    def pseudo_values(self, column: str) -> tuple[float, ...]:
        """One value a block, where the metric left out one block of its samples at a time.

        g s - (g - 1) s_i for g blocks, s the aggregate and s_i that without block i, moved so that
        their mean is s: the standard error of this mean is the jackknife's (Tukey 1958). Blocks of
        two sets hold the samples of the same numbers, so differences are of paired values.
        """
        left_out = self._blocks.get(column, ())
        if not left_out or column not in self.aggregate:
            return ()
        value, centre = self.aggregate[column][0], math.fsum(left_out) / len(left_out)
        return tuple(value + (len(left_out) - 1) * (centre - v) for v in left_out)

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """Prompt categories in order of appearance."""
        seen = dict.fromkeys(row["category"] for row in self.rows if row["kind"] == "sample")
        return tuple(category for category in seen if category)

    def samples(self, column: str) -> tuple[Sample, ...]:
        """Per-sample values whose mean is the aggregate of `column`; empty when there are none.

        A category's values are those of the metric's own column in that category, unless the
        metric wrote a column for them. Values whose mean is not the aggregate (a metric that
        pools otherwise) say nothing about its error and are not returned.
        """
        own = self._samples.get(column)
        if own is None:
            own = tuple(s for s in self._samples.get("", ()) if s.category == column)
        if not own or column not in self.aggregate:
            return ()
        value = self.aggregate[column][0]
        average = math.fsum(s.value for s in own) / len(own)
        return own if math.isclose(average, value, rel_tol=1e-4, abs_tol=1e-6) else ()


def read_score(folder: Path) -> Score:
    """Read a finished score stage. Raises ArtifactError naming the file that cannot be read."""
    path = folder / "scores.jsonl"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = json.loads(f"[{','.join(line for line in lines if line)}]")
        path = folder / "protocol.json"
        protocol = json.loads(path.read_text(encoding="utf-8"))
        return Score(folder, tuple(rows), dict(leaves(protocol)))
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"{path.parent.name}/{path.name}: not readable ({type(error).__name__})",
            hint="delete the folder and run again",
        ) from error
