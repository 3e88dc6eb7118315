"""The error of a mean over trainings and prompts: both are drawn, and both must be heard.

A value x_sp of training s and prompt p is a mean plus an effect of the training, one of the prompt,
and their interaction. Whoever repeats the study trains again and draws other prompts, so the error
of the mean has two parts with degrees of freedom of their own. Intervals are Student's t over
trainings where these dominate, the usual error over prompts where trainings do not differ, and
between the two a weighted mean that is calibrated (`tails.two_part_tail`). Prompts alone are
resampled where nothing was trained.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

from distillbench.analysis import stats
from distillbench.analysis.tails import f_tail, two_part_quantile, two_part_tail

__all__ = ["Levels", "Pool", "levels", "pool", "trainings_needed"]

HOMOGENEOUS = 0.2  # F test; at .05 it would see too little of few seeds
POWER_Z = 0.8416  # of the normal law at 80 %
MOST = 64


@dataclass(frozen=True)
class Levels:
    """A mean and the parts of its variance.

    Attributes:
        mean: of all values.
        trainings, prompts: how many of each; trainings is 1 where nothing says how they differ.
        by_training: what trainings, and the noise inside them, add to the variance of the mean.
        by_prompt: what prompts add to that.
        noise: the part of `by_training` that is noise within a training.
        training_df: degrees of freedom of `by_training`.
        prompt_df: of `by_prompt`.
    """

    mean: float
    trainings: int
    prompts: int
    by_training: float
    by_prompt: float
    noise: float
    training_df: int
    prompt_df: int

    @property
    def stderr(self) -> float:
        """The two-way standard error of the mean."""
        return math.sqrt(self.by_training + self.by_prompt)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Low and high end."""
        if not self.stderr:
            return self.mean, self.mean
        half = two_part_quantile(level, *self._parts) * self.stderr
        return self.mean - half, self.mean + half

    @property
    def p(self) -> float:
        """Two-sided p-value of a true mean of zero."""
        if not self.stderr:
            return 1.0 if self.mean == 0 else 0.0
        return two_part_tail(abs(self.mean) / self.stderr, *self._parts)

    @property
    def _parts(self) -> tuple[tuple[float, float], tuple[int, int]]:
        return (self.by_training, self.by_prompt), (self.training_df, self.prompt_df)

    def at(self, trainings: int, prompts: int) -> Levels:
        """What it would be with so many trainings and prompts, by the same components."""
        own = max(self.by_training - self.noise, 0.0) * self.trainings
        noise = self.noise * self.trainings * self.prompts
        more = noise / (trainings * prompts)
        return replace(
            self, trainings=trainings, prompts=prompts, by_training=own / trainings + more,
            by_prompt=self.by_prompt * self.prompts / prompts, noise=more,
            training_df=trainings - 1, prompt_df=max(prompts - 1, 1),
        )  # fmt: skip


def levels(
    values: Sequence[float],
    prompts: Sequence[Hashable],
    trainings: Sequence[Hashable] = (),
    *,
    nested: bool = False,
) -> Levels | None:
    """Components of the mean of values, each of a prompt and a training.

    Mean squares of the two-way layout: with V_s and V_p the cluster variances by training and by
    prompt and V_sp that of what both leave over, the variance of the mean is V_s + (V_p - V_sp).
    Unbiased for a full layout; a negative difference counts as none.

    Args:
        values: one per sample.
        prompts: what the samples are clustered by.
        trainings: the training behind each; one of them, or none given, leaves prompts alone.
        nested: samples of one training share nothing with those of another (a fixed small set of
            prompts): trainings are then all there is to resample.

    Returns:
        None where there is one cluster only.
    """
    mean, many = stats.mean(values), len(set(trainings))
    over_prompts = stats.clustered_stderr(values, prompts)
    count = len(set(prompts))
    if many < 2:
        if over_prompts is None:
            return None
        return Levels(mean, 1, count, 0.0, over_prompts**2, 0.0, 1, count - 1)
    by_training = (stats.clustered_stderr(values, trainings) or 0.0) ** 2
    if nested or over_prompts is None:
        inside = stats.clustered_stderr(values, range(len(values))) or 0.0
        noise = min(inside**2, by_training)
        return Levels(mean, many, count, by_training, 0.0, noise, many - 1, 1)
    noise = _left_over(values, prompts, trainings)
    beyond = max(over_prompts**2 - noise, 0.0)
    return Levels(mean, many, count, by_training, beyond, noise, many - 1, count - 1)


def _left_over(
    values: Sequence[float], prompts: Sequence[Hashable], trainings: Sequence[Hashable]
) -> float:
    """Variance of the mean by what neither prompt nor training explains."""
    centre = stats.mean(values)
    left = [v - centre for v in values]
    for clusters in (prompts, trainings):
        sums, sizes = stats.cluster_sums(left, clusters)
        means = dict(zip(dict.fromkeys(clusters), (s / n for s, n in zip(sums, sizes))))
        left = [v - means[c] for v, c in zip(left, clusters, strict=True)]
    cells, _ = stats.cluster_sums(left, list(zip(prompts, trainings, strict=True)))
    free = (len(set(prompts)) - 1) * (len(set(trainings)) - 1)
    return len(cells) / free * math.fsum(c * c for c in cells) / len(values) ** 2


@dataclass(frozen=True)
class Pool:
    """The spread of trainings as all rows of a table show it.

    Attributes:
        variance: of the difference of two rows' means over their trainings.
        df: its degrees of freedom.
        rows: how many rows it is of.
    """

    variance: float
    df: int
    rows: int


def pool(pair: Sequence[Sequence[float]], others: Sequence[Sequence[float]]) -> Pool | None:
    """The pooled spread, where the pair's is like that of the other rows.

    Args:
        pair: means of two rows, each by training; training s of every row has the same seed.
        others: the same of the rows they stand among, at least two.

    Returns:
        None where there are too few rows, or the trainings of the pair differ more than those of
        the others (F test, p at most 0.2): one noisy method would be called significant too often.
    """
    count = len(pair[0])
    if count < 2 or len(others) < 2:
        return None
    free = (len(others) - 1) * (count - 1)
    theirs = _interaction(others) / free
    own = _interaction(pair) / (count - 1)
    if not theirs or f_tail(own / theirs, count - 1, free) <= HOMOGENEOUS:
        return None
    rows = [*pair, *others]
    df = (len(rows) - 1) * (count - 1)
    return Pool(2 * _interaction(rows) / df / count, df, len(rows))


def _interaction(rows: Sequence[Sequence[float]]) -> float:
    """Sum of squares of what rows and seeds leave over."""
    whole = stats.mean([v for row in rows for v in row])
    columns = [stats.mean(column) for column in zip(*rows, strict=True)]
    return math.fsum(
        (v - stats.mean(row) - column + whole) ** 2
        for row in rows
        for v, column in zip(row, columns, strict=True)
    )


def trainings_needed(found: Levels, prompts: int) -> int | None:
    """The least trainings that decide a true difference of this size with 80 % power.

    None above 64. By the rule of the intervals, the error taken to be as large as it is here.
    """
    if not _decides(found.at(MOST, prompts)):
        return None
    return 2 + bisect_left(range(2, MOST), True, key=lambda n: _decides(found.at(n, prompts)))


def _decides(guess: Levels) -> bool:
    if not guess.stderr:
        return True
    least = guess.interval()[1] - guess.mean
    return abs(guess.mean) >= least + POWER_Z * guess.stderr
