"""Two rows side by side: what is paired with what, and how much the trainings behind them differ.

Where a metric scores every sample, the rows are paired by (seed, number, prompt): same noise, same
prompt. A metric of whole sets that leaves out one block of samples at a time is paired by (seed,
block), any other by seed.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

from distillbench.analysis import stats
from distillbench.analysis.aggregate import MixedProtocols, Results, SeedScore
from distillbench.analysis.levels import Levels, Pool, levels, pool
from distillbench.analysis.references import against
from distillbench.analysis.rows import Row
from distillbench.analysis.scores import Score

__all__ = ["Over", "PairedValues", "paired", "pooled"]

Over = Literal["prompts", "samples", "blocks", "seeds"]


@dataclass(frozen=True)
class PairedValues:
    """Paired values of two rows, in order.

    Attributes:
        a, b: one value each a pair.
        prompts: of each pair, "" where it is of whole sets.
        units: what each pair is resampled with: its prompt, its own number, its block, its seed.
        seeds: of each pair.
        trainings: name of the two trainings behind each pair, "" where neither side is trained.
        trained: trainings of the side that has fewer of them; 0 where neither side is trained. A
            setting of the teacher is no draw and does not count.
        over: what the units are.
    """

    a: tuple[float, ...]
    b: tuple[float, ...]
    prompts: tuple[str, ...]
    units: tuple[Hashable, ...]
    seeds: tuple[int, ...]
    trainings: tuple[str, ...]
    trained: int
    over: Over

    def __len__(self) -> int:
        return len(self.a)

    @property
    def drawn(self) -> int:
        """Pairs of trainings that differ in either side, over which the mean is resampled."""
        return len(set(self.trainings))

    def differences(self, factor: float = 1.0) -> list[float]:
        """A - factor * B."""
        return [x - factor * y for x, y in zip(self.a, self.b, strict=True)]

    def levels(self, differences: Sequence[float]) -> Levels | None:
        """The error of their mean over trainings and units.

        Values of seeds alone are resampled by seed, whatever was trained.
        """
        if self.over == "seeds":
            return levels(differences, self.units, self.seeds, nested=True)
        if self.over == "samples" and self.drawn < 2:
            differences = self.within(differences)
        return levels(differences, self.units, self.trainings, nested=self.over == "samples")

    def within(self, differences: Sequence[float]) -> list[float]:
        """Differences without what fixed prompts account for (`over` "samples")."""
        return stats.within_prompts(differences, self.prompts)


def paired(
    rows: tuple[Row, Row], scored: Sequence[Sequence[SeedScore]], suffix: str
) -> PairedValues:
    """Pairs of the seeds that both rows have, by the finest unit that both have values of."""
    ours, theirs = ({s.cell.seed: s.score for s in side if s.score} for side in scored)
    seeds = [seed for seed in ours if seed in theirs]
    trained, other = (dict(zip(row.seeds, row.trainings, strict=True)) for row in rows)
    names = {s: " ".join(filter(None, (trained[s], other[s]))) for s in seeds}
    least = min(filter(None, (row.repeats(seeds) for row in rows)), default=0)
    for of, over in ((_samples, "prompts"), (_blocks, "blocks"), (_whole, "seeds")):
        found = [(s, of(ours[s], suffix), of(theirs[s], suffix)) for s in seeds]
        if all(x and y and (over == "prompts" or len(x) == len(y)) for _, x, y in found):
            values = [(x[u], y[u], u, s) for s, x, y in found for u in x if u in y]
            return _as_pairs(values, names, least, over)  # type: ignore[arg-type]
    raise AssertionError("every score has a value of its own")


def _as_pairs(
    rows: Sequence[tuple[float, float, tuple[str, int], int]],
    names: dict[int, str],
    trained: int,
    over: Over,
) -> PairedValues:
    prompts = tuple(unit[0] for _, _, unit, _ in rows)
    seeds = tuple(seed for *_, seed in rows)
    units: Sequence[Hashable] = prompts
    if over == "prompts" and rows and stats.prompts_are_fixed(prompts, seeds=len(set(seeds))):
        over, units = "samples", range(len(rows))
    elif over == "blocks":
        units = tuple(unit[1] for _, _, unit, _ in rows)
    elif over == "seeds":
        units = seeds
    return PairedValues(
        tuple(x for x, *_ in rows), tuple(y for _, y, *_ in rows), prompts, tuple(units), seeds,
        tuple(names[seed] for seed in seeds), trained, over,
    )  # fmt: skip


def _samples(score: Score, suffix: str) -> dict[tuple[str, int], float]:
    return {(s.prompt, s.number): s.value for s in score.samples(suffix)}


def _blocks(score: Score, suffix: str) -> dict[tuple[str, int], float]:
    return {("", i): value for i, value in enumerate(score.pseudo_values(suffix))}


def _whole(score: Score, suffix: str) -> dict[tuple[str, int], float]:
    return {("", 0): score.aggregate[suffix][0]}


def pooled(results: Results, a: Row, b: Row, metric: str, suffix: str) -> Pool | None:
    """The spread of trainings over all rows that stand beside the two; None where they are odd.

    Rows of the same backbone, step count, seeds and reference, trained to their end, each training
    once.
    """
    found: dict[tuple[str, ...], list[float]] = {}
    for row in (a, b, *results.rows):
        alike = _place(results, row, metric) == _place(results, a, metric)
        if alike and len(set(row.trainings) - {""}) == len(row.seeds):
            means = _means(results, row, metric, suffix)
            if means and _same_protocol(results, a, row, metric):
                found.setdefault(row.trainings, means)
    if a.trainings == b.trainings or not {a.trainings, b.trainings} <= set(found):
        return None
    pair = [found.pop(a.trainings), found.pop(b.trainings)]
    return pool(pair, list(found.values()))


def _place(results: Results, row: Row, metric: str) -> tuple[object, ...]:
    reference = against(results.plan, row, metric)
    cell = row.first
    place = reference.comparable if reference else ""
    return cell.backbone, cell.nfe, row.seeds, cell.final, place


def _means(results: Results, row: Row, metric: str, suffix: str) -> list[float]:
    """A row's value by seed; [] where one is missing."""
    scores = [s.score for s in results.scores(row, metric)]
    values = [s.aggregate[suffix][0] for s in scores if s and suffix in s.aggregate]
    whole = len(values) == len(scores) and all(map(math.isfinite, values))
    return values if whole else []


def _same_protocol(results: Results, a: Row, row: Row, metric: str) -> bool:
    try:
        results.protocol([a, row], metric)
    except MixedProtocols:
        return False
    return True
