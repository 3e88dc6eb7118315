"""From the plan's cells and their stored scores to rows with values and standard errors."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from distillbench.analysis import stats
from distillbench.analysis.levels import Levels, levels
from distillbench.analysis.rows import Row, chosen, rows_of
from distillbench.analysis.scores import Sample, Score, read_score
from distillbench.analysis.snapshot import Snapshot, StoreLike
from distillbench.errors import ArtifactError, BadInput
from distillbench.plan.changed import Changes, find_changes
from distillbench.plan.stage import Cell, Plan

__all__ = ["MixedProtocols", "Results", "SeedScore", "Value"]


class MixedProtocols(BadInput):
    """A table column would hold values that were measured in different ways."""


@dataclass(frozen=True)
class SeedScore:
    """The score of one cell; `score` is None when it is missing, and `missing` says why."""

    cell: Cell
    score: Score | None
    missing: str = ""


@dataclass(frozen=True)
class Value:
    """One number of a table.

    Attributes:
        value: mean over seeds of the aggregates; None when nothing was measured.
        n: samples behind it: summed over the seeds, but of one seed for metrics of whole sets.
        stderr: its standard error, None where nothing can be said.
        stderr_over: what the error is over: prompts | samples | seeds |
            prompts+seeds | samples+seeds, or "".
        seeds: the seeds it is the mean of.
        keys: score stage keys, one per seed of the row.
        missing: why it, or a part of its seeds, is missing; "" when complete.
    """

    value: float | None
    n: int = 0
    stderr: float | None = None
    stderr_over: str = ""
    seeds: tuple[int, ...] = ()
    keys: tuple[str, ...] = ()
    missing: str = ""


class Results:
    """Rows of a plan with their values, read from the store when first asked for."""

    def __init__(self, plan: Plan, store: StoreLike) -> None:
        self.plan = plan
        self.store = Snapshot(store)
        self._scores: dict[str, Score | str] = {}
        self._values: dict[tuple[int, str, str], Value] = {}

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """One per row index, in plan order."""
        return rows_of(self.plan)

    def select(
        self, where: Mapping[str, Any], referenced_fields: Iterable[str] = ()
    ) -> tuple[Row, ...]:
        """Rows that match `where`; see `rows.chosen`."""
        return chosen(self.rows, where, referenced_fields)

    def scores(self, row: Row, metric: str) -> tuple[SeedScore, ...]:
        """The metric's score of every seed of the row."""
        return tuple(self._seed_score(cell, metric) for cell in row.cells)

    def value(self, row: Row, metric: str, suffix: str = "") -> Value:
        """The number of `<metric>` or `<metric>_<suffix>` in that row."""
        asked = row.index, metric, suffix
        if asked not in self._values:
            self._values[asked] = self._value(row, metric, suffix)
        return self._values[asked]

    def _value(self, row: Row, metric: str, suffix: str) -> Value:
        scored = self.scores(row, metric)
        keys = tuple(s.cell.scores[metric] for s in scored if metric in s.cell.scores)
        good, problems = [], []
        for item in scored:
            problem = item.missing or _problem(item, suffix)
            if problem:
                problems.append(f"seed {item.cell.seed}: {problem}" if len(scored) > 1 else problem)
            else:
                good.append(item)
        missing = _join(problems, len(good), len(scored))
        if not good:
            return Value(None, keys=keys, missing=missing)
        numbers = [s.score.aggregate[suffix] for s in good if s.score]
        samples = [s.score.samples(suffix) for s in good if s.score]
        trained = dict(zip(row.seeds, row.trainings, strict=True))
        names = [trained[item.cell.seed] for item in good]
        stderr, over = _stderr([s.score for s in good if s.score], samples, names, suffix)
        sizes = [n for _, n in numbers]
        # A value of sample sets (FID) is the mean of values at n, and not one at seeds x n.
        sets = not any(samples)
        return Value(
            stats.mean([value for value, _ in numbers]), min(sizes) if sets else sum(sizes),
            stderr, over,
            tuple(s.cell.seed for s in good), keys, missing,
        )  # fmt: skip

    def suffixes(self, rows: Iterable[Row], metric: str) -> tuple[str, ...]:
        """Every column suffix that a metric wrote for these rows, categories first."""
        found: dict[str, None] = {}
        for score in (s.score for row in rows for s in self.scores(row, metric)):
            if score is not None:
                names = [c for c in score.aggregate if c]
                found |= dict.fromkeys(sorted(names, key=lambda c: c not in score.categories))
        return tuple(found)

    def even(self, rows: Iterable[Row], metric: str, suffixes: Sequence[str]) -> bool:
        """Whether these columns are of equally many samples, and the metric's own is their mean."""
        sizes = ({self.value(row, metric, suffix).n for suffix in suffixes} for row in rows)
        return all(len(of_row) < 2 for of_row in sizes)

    def protocol(self, rows: Sequence[Row], metric: str) -> Mapping[str, Any]:
        """What the metric's values in these rows have in common.

        Raises:
            MixedProtocols: two of them were measured in different ways; names the runs and fields.
        """
        scored = [s for row in rows for s in self.scores(row, metric) if s.score]
        if not scored:
            return {}
        first, *others = scored
        for other in others:
            if _measured_alike(first, other):
                continue
            fields = _differing(_protocol(first), _protocol(other))
            if fields:
                raise _mixed(metric, first, other, fields)
        return _protocol(first)

    def missing_stage(self, key: str) -> str:
        """Why a stage has no result: itself or the first of its ancestors that is not done."""
        stage = self.plan.stages[key]
        for needed in stage.needs:
            above = self.plan.stages[needed]
            if not self.store.is_done(above.kind, needed):
                return self.missing_stage(needed)
        what = f"{stage.kind} stage {key[:8]}"
        reason = self.store.reason(stage.kind, key)
        return f"{what} failed: {_one_line(reason)}" if reason else f"{what} is not done"

    def damaged(self) -> list[str]:
        """Stages of the plan whose files are not what was committed, each with the reason."""
        stages = self.plan.stages.values()
        there = [s for s in stages if self.store.path(s.kind, s.key).is_dir()]
        reasons = ((stage, self.store.reason(stage.kind, stage.key)) for stage in there)
        return [f"{s.kind} stage {s.key} ({s.label}): {why}" for s, why in reasons if why]

    @cached_property
    def changes(self) -> Changes:
        """What of the plan other code made than is here."""
        stages = self.plan.stages.items()
        done = [key for key, stage in stages if self.store.is_done(stage.kind, key)]
        return find_changes(self.plan, done, self.store)

    def _seed_score(self, cell: Cell, metric: str) -> SeedScore:
        key = cell.scores.get(metric)
        if key is None:
            return SeedScore(cell, None, "not measured for this row")
        if key not in self._scores:
            self._scores[key] = self._read(key)
        found = self._scores[key]
        return SeedScore(cell, None, found) if isinstance(found, str) else SeedScore(cell, found)

    def _read(self, key: str) -> Score | str:
        if not self.store.is_done("score", key):
            return self.missing_stage(key)
        try:
            return read_score(self.store.path("score", key))
        except ArtifactError as error:
            return f"score stage {key[:8]} is damaged: {error}"


def _problem(item: SeedScore, suffix: str) -> str:
    assert item.score is not None
    have = item.score.aggregate
    if suffix not in have:
        return f"no column {suffix!r}; has {', '.join(sorted(c for c in have if c)) or 'none'}"
    return "" if math.isfinite(have[suffix][0]) else "the value is not finite"


def _join(problems: Sequence[str], good: int, seeds: int) -> str:
    if not problems:
        return ""
    texts = {p.partition(": ")[2] if seeds > 1 else p for p in problems}
    if not good:
        return next(iter(texts)) if len(texts) == 1 else "; ".join(problems)
    return f"mean of {good} of {seeds} seeds ({'; '.join(problems)})"


def _stderr(
    scores: Sequence[Score], samples: Sequence[Sequence[Sample]], trained: Sequence[str],
    suffix: str,
) -> tuple[float | None, str]:  # fmt: skip
    """Standard error of the mean over seeds, and what it is over."""
    if all(samples):
        return _of_samples(samples, trained)
    blocks = [score.pseudo_values(suffix) for score in scores]
    if all(blocks):
        return _of_blocks(blocks, trained)
    if len(scores) == 1 and suffix in scores[0].stderr:
        return scores[0].stderr[suffix], "samples"
    error = stats.seeds_stderr([score.aggregate[suffix][0] for score in scores])
    return error, "" if error is None else "seeds"


def _protocol(item: SeedScore) -> Mapping[str, Any]:
    """How it was measured, which the wording of the column head is no part of."""
    assert item.score is not None
    return {name: value for name, value in item.score.protocol.items() if name != "label"}


def _measured_alike(first: SeedScore, other: SeedScore) -> bool:
    """Whether they share one record of how they were measured, so that nothing can differ."""
    return first.score is not None and other.score is not None and (
        first.score.protocol is other.score.protocol
    )  # fmt: skip


def _of_samples(
    parts: Sequence[Sequence[Sample]], trained: Sequence[str]
) -> tuple[float | None, str]:
    """Standard error from per-sample values, one part a seed."""
    values = [s.value for part in parts for s in part]
    prompts = [s.prompt for part in parts for s in part]
    trainings = [name for name, part in zip(trained, parts, strict=True) for _ in part]
    fixed = stats.prompts_are_fixed(prompts, seeds=len(parts))
    units: Sequence[Hashable] = range(len(values)) if fixed else prompts
    if fixed:
        values = stats.within_prompts(values, prompts)
    found = levels(values, units, trainings, nested=fixed)
    return _named(found, "samples" if fixed else "prompts")


def _of_blocks(
    parts: Sequence[Sequence[float]], trained: Sequence[str]
) -> tuple[float | None, str]:
    """The same from one value a block."""
    values = [value for part in parts for value in part]
    blocks = [block for part in parts for block in range(len(part))]
    trainings = [name for name, part in zip(trained, parts, strict=True) for _ in part]
    return _named(levels(values, blocks, trainings), "samples")


def _named(found: Levels | None, over: str) -> tuple[float | None, str]:
    if found is None:
        return None, ""
    return found.stderr, f"{over}+seeds" if found.trainings > 1 else over


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    return [field for field in sorted({*a, *b}) if a.get(field) != b.get(field)]


def _mixed(
    metric: str, first: SeedScore, other: SeedScore, fields: Sequence[str]
) -> MixedProtocols:
    def name(item: SeedScore) -> str:
        cell, key = item.cell, item.cell.scores[metric][:8]
        return f"{cell.name} (nfe {cell.nfe}, seed {cell.seed}, {key})"

    a, b = _protocol(first), _protocol(other)
    differences = "; ".join(f"{f}: {a.get(f)!r} against {b.get(f)!r}" for f in fields)
    return MixedProtocols(
        f"column {metric}: {name(first)} and {name(other)} were measured in different ways: "
        f"{differences}",
        hint="put them into tables of their own with `where`, or score both in one way",
    )


def _one_line(text: str) -> str:
    """The first line, with folders taken off paths: tables must not depend on where they ran."""
    line = text.strip().splitlines()[0] if text.strip() else ""
    return re.sub(r"(?<![\w.])/(?:[^\s/:'\"()]+/)+", "", line)
