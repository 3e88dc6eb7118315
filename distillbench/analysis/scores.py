"""Read what a score stage left in the store: aggregates, per-sample values and the protocol."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
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
class _Column:
    """Values of samples, a number each; who they are of is shared by all scores of one set."""

    of: tuple[tuple[int, str, str], ...]
    values: array[float]

    def samples(self) -> tuple[Sample, ...]:
        return tuple(Sample(*who, v) for who, v in zip(self.of, self.values, strict=True))


@dataclass(frozen=True)
class Score:
    """One score stage, without the lines it was read from: a grid has very many.

    Attributes:
        folder: its folder in the store.
        protocol: what must agree before two values may share a column, flattened to dotted keys.
        aggregate: column suffix ("" is the metric's own) -> (value, number of samples).
        stderr: column suffix -> standard error, where the metric gave its own (a jackknife).
        categories: of the prompts, in order of appearance.
    """

    folder: Path
    protocol: Mapping[str, Any]
    aggregate: Mapping[str, tuple[float, int]]
    stderr: Mapping[str, float]
    categories: tuple[str, ...]
    _columns: Mapping[str, _Column]
    _blocks: Mapping[str, tuple[float, ...]]

    @staticmethod
    def of(folder: Path, rows: Sequence[Mapping[str, Any]], protocol: Mapping[str, Any]) -> Score:
        """The score of the lines of scores.jsonl."""
        kinds: dict[str, list[Mapping[str, Any]]] = {}
        for row in rows:
            kinds.setdefault(row["kind"], []).append(row)
        samples, whole = kinds.get("sample", []), kinds.get("aggregate", [])
        seen = dict.fromkeys(row["category"] for row in samples)
        return Score(
            folder, protocol, {row["column"]: _number(row) for row in whole},
            {r["column"]: float(r["stderr"]) for r in whole if r.get("stderr") is not None},
            tuple(category for category in seen if category),
            _columns_of(samples), _blocks_of(kinds.get("block", [])),
        )  # fmt: skip

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

    def samples(self, column: str) -> tuple[Sample, ...]:
        """Per-sample values whose mean is the aggregate of `column`; empty when there are none.

        A category's values are those of the metric's own column in that category, unless the
        metric wrote a column for them. Values whose mean is not the aggregate (a metric that
        pools otherwise) say nothing about its error and are not returned.
        """
        found = self._columns.get(column)
        own = found.samples() if found else ()
        if found is None and "" in self._columns and column in self.categories:
            own = tuple(s for s in self._columns[""].samples() if s.category == column)
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
        protocol = path.read_text(encoding="utf-8")
        return Score.of(folder, rows, _shared(protocol))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{path.parent.name}/{path.name}: not readable ({type(error).__name__})",
            hint="delete the folder and run again",
        ) from error


@lru_cache(maxsize=1024)
def _shared(protocol: str) -> Mapping[str, Any]:
    """The protocol of a text: one object for all scores that were measured in one way."""
    return dict(leaves(json.loads(protocol)))


def _number(row: Mapping[str, Any]) -> tuple[float, int]:
    return math.nan if row["value"] is None else float(row["value"]), int(row["n"])


def _columns_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, _Column]:
    of: dict[str, list[tuple[int, str, str]]] = {}
    values: dict[str, array[float]] = {}
    for row in rows:
        if row["value"] is not None:
            column = row["column"]
            of.setdefault(column, []).append((row["index"], row["prompt"], row["category"]))
            values.setdefault(column, array("d")).append(row["value"])
    return {name: _Column(_same(tuple(who)), values[name]) for name, who in of.items()}


@lru_cache(maxsize=1024)
def _same(of: tuple[tuple[int, str, str], ...]) -> tuple[tuple[int, str, str], ...]:
    """The first of all equal ones."""
    return of


def _blocks_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, ...]]:
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row["column"], []).append(float(row["value"]))
    return {column: tuple(values) for column, values in found.items()}
