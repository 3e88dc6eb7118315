"""Decide claims: paired differences, their interval, p-value and effect size, Holm-corrected.

A claim about methods is decided over trainings and prompts (`levels`). One training of each side
says nothing of how trainings differ: the verdict is then about these two checkpoints, and says that
they differ and never that a claim holds. Where neither side was trained, prompts decide alone. A
claim holds when its interval lies on the claimed side and its corrected p-value is below 0.05; it
fails when both speak for the contrary; everything else is undecided.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from distillbench.analysis import stats
from distillbench.analysis.aggregate import MixedProtocols, Results
from distillbench.analysis.claims import Claim, parse_claim, resolve
from distillbench.analysis.columns import find_metric
from distillbench.analysis.levels import Levels, trainings_needed
from distillbench.analysis.pairs import PairedValues, paired, pooled
from distillbench.analysis.published import normalise
from distillbench.analysis.references import against
from distillbench.analysis.rows import Row
from distillbench.analysis.tails import wilson
from distillbench.api.metric import MetricInfo
from distillbench.experiment.schema import Experiment

__all__ = ["Verdict", "decide_claims"]

ALPHA = 0.05


@dataclass(frozen=True)
class Verdict:
    """The outcome of one claim.

    Attributes:
        verdict: holds | fails | differ | undecided; "differ" is of two checkpoints.
        reason: why it is no more than that; "" where it holds or fails.
        metric: column it is about; label: its head, which says so where the scorer is a tiny one.
        a, b: the rows compared.
        a_value, b_value: their means over the paired samples; `b_value` without the factor.
        difference: mean of A - factor * B, in the metric's unit, with its 95 % interval low..high.
        p, p_holm: two-sided p-value, and corrected for all claims of the experiment.
        effect_size: Cohen's d_z of the paired differences.
        win_rate: share of the units on which A's mean is the better one, ties as halves, with its
            Wilson interval win_low..win_high; None for a metric without direction or of whole sets.
        over: what is resampled beside trainings: prompts | samples | blocks | seeds; units: how
            many of them.
        pairs: paired values in all.
        trainings: of the side that has fewer of them, by whomever; 0 where neither is trained.
        pooled_rows: rows that the spread of trainings is pooled over; 0 where it is the pair's own.
        seeds, seeds_agree: seeds in common, and how many have the sign of the difference.
        power: what would decide it, "" where it is decided.
        runs: stage keys of the scores of A and of B.
    """

    text: str
    source: str = ""
    verdict: Literal["holds", "fails", "differ", "undecided"] = "undecided"
    reason: str = ""
    metric: str = ""
    label: str = ""
    a: str = ""
    b: str = ""
    a_value: float | None = None
    b_value: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    effect_size: float | None = None
    win_rate: float | None = None
    win_low: float | None = None
    win_high: float | None = None
    over: str = ""
    units: int = 0
    pairs: int = 0
    trainings: int = 0
    pooled_rows: int = 0
    seeds: int = 0
    seeds_agree: int = 0
    power: str = ""
    runs: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())


FLOOR = (
    "one side is the reference itself, against samples of other noise, the other shares the "
    "reference's noise: they are not comparable; with `reference: {noise: other}` they are"
)
SAME = "both sides are the same run: what they set otherwise changes nothing"
REFERENCES = "the sides are compared with different references: their distances are not comparable"


def decide_claims(
    experiment: Experiment, results: Results, infos: Mapping[str, MetricInfo]
) -> list[Verdict]:
    """Decide every claim of the experiment, in its order.

    A claim that cannot be read or resolved is undecided, with the reason; nothing is raised, so
    that the rest of the report stands.
    """
    claims: list[Claim | None] = []
    measured: list[Verdict] = []
    awaited = 0
    for config in experiment.claims:
        blank, claim = Verdict(config.text, config.source), None
        try:
            claim = parse_claim(config.text)
            measured.append(_measure(claim, blank, results, infos))
        except _Awaited as unfinished:
            measured.append(unfinished.verdict)
            awaited += 1
        except (ValueError, MixedProtocols) as error:
            reason = str(error).removeprefix(f"claim {config.text!r}: ")
            measured.append(replace(blank, reason=reason))
        claims.append(claim)
    decided = zip(_corrected(measured, awaited), claims, strict=True)
    return [v if c is None else _decide(v, c, infos) for v, c in decided]


class _Awaited(Exception):
    """A claim whose scores are not all there yet."""

    def __init__(self, verdict: Verdict) -> None:
        self.verdict = verdict


def _measure(
    claim: Claim, blank: Verdict, results: Results, infos: Mapping[str, MetricInfo]
) -> Verdict:
    """The verdict with its numbers, before the claim is decided. Raises _Awaited."""
    found = find_metric(claim.metric, list(infos))
    if found is None:
        raise ValueError(f"no metric {claim.metric!r}; has: {', '.join(infos)}")
    rows = resolve(claim, results.rows)
    results.protocol(rows, found[0])
    info = infos[found[0]]
    named = replace(blank, metric=claim.metric, label=info.label, a=rows[0].name, b=rows[1].name)
    if rows[0].samples == rows[1].samples:
        return replace(named, reason=SAME)
    scored = [results.scores(row, found[0]) for row in rows]
    missing = next((s.missing for side in scored for s in side if s.missing), "")
    if missing:
        raise _Awaited(replace(named, reason=missing))
    sides = [s for row in rows if (s := against(results.plan, row, found[0]))]
    if len({side.comparable for side in sides}) > 1:
        one_noise = len({side.noise for side in sides}) == 1
        return replace(named, reason=REFERENCES if one_noise else FLOOR)
    suffix = _suffix(results, rows, *found)
    keys = [tuple(s.cell.scores[found[0]] for s in side) for side in scored]
    pairs = paired(rows, scored, suffix)
    verdict, error = _numbers(replace(named, runs=(keys[0], keys[1])), pairs, claim.factor)
    if error and verdict.trainings > 1 and claim.factor in (None, 1.0):
        verdict, error = _pooled(verdict, error, results, rows, (found[0], suffix))
    verdict = _wins(verdict, pairs, claim.factor, info.higher_is_better)
    alone = any(trained.elsewhere for row in rows for trained in row.trained)
    unknown = verdict.trainings == 1 and alone  # other seeds of it are no other trainings
    return replace(verdict, power=_power(verdict, error)) if error and not unknown else verdict


def _suffix(results: Results, rows: Sequence[Row], metric: str, asked: str) -> str:
    if not asked:
        return ""
    have = results.suffixes(rows, metric)
    exact = next((s for s in have if normalise(s) == normalise(asked)), None)
    if exact is None:
        raise ValueError(f"{metric} has no column {asked!r}; has: {', '.join(have) or 'none'}")
    return exact


def _numbers(
    verdict: Verdict, pairs: PairedValues, factor: float | None
) -> tuple[Verdict, Levels | None]:
    """Fill in everything that can be computed from the pairs, and the error it rests on."""
    if not pairs:
        return replace(verdict, reason="no seed and prompt in common"), None
    differences = pairs.differences(1.0 if factor is None else factor)
    if not all(map(math.isfinite, differences)):
        return replace(verdict, reason="a value is not finite"), None
    difference = stats.mean(differences)
    sums, sizes = stats.cluster_sums(differences, pairs.units)
    by_seed, _ = stats.cluster_sums(differences, pairs.seeds)
    agree = sum(1 for s in by_seed if (s > 0) - (s < 0) == (difference > 0) - (difference < 0))
    verdict = replace(
        verdict, a_value=stats.mean(pairs.a), b_value=stats.mean(pairs.b), difference=difference,
        over=pairs.over, units=len(sums), pairs=len(pairs), seeds=len(by_seed), seeds_agree=agree,
        trainings=pairs.trained,
    )  # fmt: skip
    if len(sums) < 2 and (pairs.over == "seeds" or pairs.drawn < 2):
        what = "one seed and no per-sample values" if pairs.over == "seeds" else "one prompt only"
        return replace(verdict, reason=f"{what}: no interval"), None
    means = [s / n for s, n in zip(sums, sizes, strict=True)]
    verdict = replace(verdict, effect_size=stats.effect_size(means))
    error = pairs.levels(differences)
    assert error is not None, "two units or trainings"
    if pairs.over == "seeds" and not error.stderr:
        return replace(verdict, reason="the seeds do not differ: no interval"), None
    if error.trainings > 1 or pairs.over == "blocks":
        return _with(verdict, error), error
    spread = pairs.within(sums) if pairs.over == "samples" else sums
    low, high = stats.bootstrap_interval(spread, sizes)
    return replace(verdict, low=low, high=high, p=stats.sign_flip_p(sums)), error


def _with(verdict: Verdict, error: Levels) -> Verdict:
    low, high = error.interval()
    return replace(verdict, low=low, high=high, p=error.p)


def _pooled(
    verdict: Verdict, error: Levels, results: Results, rows: tuple[Row, Row],
    column: tuple[str, str],
) -> tuple[Verdict, Levels]:  # fmt: skip
    """The same with the spread of trainings of all comparable rows, where that is sound."""
    found = pooled(results, *rows, *column)
    if found is None:
        return verdict, error
    error = replace(error, by_training=found.variance, training_df=found.df)
    return replace(_with(verdict, error), pooled_rows=found.rows), error


def _wins(
    verdict: Verdict, pairs: PairedValues, factor: float | None, higher: bool | None
) -> Verdict:
    """The share of prompts on which A is better; it speaks of these trainings."""
    if higher is None or factor is not None or pairs.over not in ("prompts", "samples"):
        return verdict
    sums, _ = stats.cluster_sums(pairs.differences(), pairs.units)
    better = sum(1.0 if s > 0 else 0.5 if s == 0 else 0.0 for s in sums) / len(sums)
    share = better if higher else 1 - better
    low, high = wilson(share, len(sums))
    return replace(verdict, win_rate=share, win_low=low, win_high=high)


def _power(verdict: Verdict, error: Levels) -> str:
    """How many seeds and prompts would decide a difference of this size, at 80 % power."""
    if not error.mean or not error.stderr:
        return ""
    if verdict.trainings == 1:
        return "two seeds or more; how much trainings differ is not known at one"
    of = {"prompts": "prompts", "samples": "samples", "blocks": "as many samples"}
    options = []
    for more in (1, 4):
        many = error.prompts * more
        needed = trainings_needed(error, many) if error.trainings > 1 else None
        if needed:
            what = "" if verdict.over == "seeds" else f" of {many} {of[verdict.over]}"
            options.append((needed, f"{needed} seeds{what}"))
        if verdict.over in ("seeds", "blocks"):
            break
    if len(options) == 2 and options[0][0] == options[1][0]:
        options.pop()
    if error.trainings < 2:
        share = (2.8 * error.stderr / error.mean) ** 2
        return f"about {math.ceil(error.prompts * share)} {of.get(verdict.over, 'units')}"
    return "about " + " or ".join(text for _, text in options) if options else "over 64 seeds"


def _corrected(verdicts: Sequence[Verdict], awaited: int) -> list[Verdict]:
    """Holm's correction over all claims that have a p-value, or are still to get one."""
    known = [v.p for v in verdicts if v.p is not None]
    adjusted = iter(stats.holm(known, awaited=awaited))
    return [v if v.p is None else replace(v, p_holm=next(adjusted)) for v in verdicts]


def _decide(verdict: Verdict, claim: Claim, infos: Mapping[str, MetricInfo]) -> Verdict:
    low, high, p = verdict.low, verdict.high, verdict.p_holm
    if low is None or high is None or p is None:
        return verdict
    one = verdict.trainings == 1
    if low == high == 0:
        # No difference at all: "at least as good" is met exactly, "better" is not.
        if one:
            return replace(verdict, reason="these checkpoints score the same; train more seeds")
        return replace(verdict, verdict="holds" if claim.operator in (">=", "<=") else "fails")
    if low <= 0 <= high:
        return replace(verdict, reason="the interval holds zero")
    if p >= ALPHA:
        return replace(verdict, reason="not significant after Holm's correction")
    for_it = low * _sign(claim, infos) > 0
    if one:
        side = "for" if for_it else "against"
        several = "seeds" if verdict.power else "trainings"
        reason = f"one training speaks {side} the claim; of methods two {several} or more can tell"
        return replace(verdict, verdict="differ", reason=reason)
    return replace(verdict, verdict="holds" if for_it else "fails", power="")


def _sign(claim: Claim, infos: Mapping[str, MetricInfo]) -> int:
    """The sign of A - B that the claim asks for."""
    metric = find_metric(claim.metric, list(infos))
    assert metric is not None, "only measured claims are decided"
    upward = 1 if claim.operator.startswith(">") else -1
    literal = claim.factor is not None or infos[metric[0]].higher_is_better is not False
    return upward if literal else -upward
