"""Decide claims: paired differences, their interval, p-value and effect size, Holm-corrected.

Where a metric scores every sample, the two rows are paired by (seed, prompt): same noise, same
prompt. The interval resamples prompts and the test flips the sign of whole prompts (in a world of a
few prompts, of samples; see `stats`). Metrics that
score sets only (FID) are paired by seed and need two seeds or more. A claim holds when its interval
lies on the claimed side, its corrected p-value is below 0.05 and every seed agrees; it fails
when all three speak for the contrary; everything else is undecided.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from distillbench.analysis import stats
from distillbench.analysis.aggregate import MixedProtocols, Results, SeedScore
from distillbench.analysis.claims import Claim, parse_claim, resolve
from distillbench.analysis.columns import find_metric
from distillbench.analysis.published import normalise
from distillbench.analysis.references import against
from distillbench.analysis.rows import Row
from distillbench.analysis.scores import Sample
from distillbench.api.metric import MetricInfo
from distillbench.experiment.schema import Experiment

__all__ = ["Verdict", "decide_claims"]

ALPHA = 0.05


@dataclass(frozen=True)
class Verdict:
    """The outcome of one claim.

    Attributes:
        verdict: holds | fails | undecided.
        reason: why it is undecided; "" otherwise.
        metric: column it is about; label: its head, which says so where the scorer is a tiny one.
        a, b: the rows compared.
        a_value, b_value: their means over the paired samples; `b_value` without the factor.
        difference: mean of A - factor * B, in the metric's unit, with its 95 % interval low..high.
        p, p_holm: two-sided p-value, and corrected for all claims of the experiment.
        effect_size: Cohen's d_z of the paired differences.
        over: what is resampled: prompts | samples | seeds; units: how many of them.
        pairs: paired values in all.
        seeds, seeds_agree: seeds in common, and how many have the sign of the difference.
        runs: stage keys of the scores of A and of B.
    """

    text: str
    source: str = ""
    verdict: Literal["holds", "fails", "undecided"] = "undecided"
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
    over: str = ""
    units: int = 0
    pairs: int = 0
    seeds: int = 0
    seeds_agree: int = 0
    runs: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())


FLOOR = (
    "one side is the reference itself, against samples of other noise, the other shares the "
    "reference's noise: they are not comparable; with `reference: {noise: other}` they are"
)
REFERENCES = "the sides are compared with different references: their distances are not comparable"


@dataclass(frozen=True)
class _Pair:
    """One paired observation; `unit` is what it is resampled with."""

    seed: int
    number: int
    prompt: str
    a: float
    b: float


def decide_claims(
    experiment: Experiment, results: Results, infos: Mapping[str, MetricInfo]
) -> list[Verdict]:
    """Decide every claim of the experiment, in its order.

    A claim that cannot be read or resolved is undecided, with the reason; nothing is raised, so
    that the rest of the report stands.
    """
    claims: list[Claim | None] = []
    measured: list[Verdict] = []
    for config in experiment.claims:
        blank, claim = Verdict(config.text, config.source), None
        try:
            claim = parse_claim(config.text)
            measured.append(_measure(claim, blank, results, infos))
        except (ValueError, MixedProtocols) as error:
            reason = str(error).removeprefix(f"claim {config.text!r}: ")
            measured.append(replace(blank, reason=reason))
        claims.append(claim)
    decided = zip(_corrected(measured), claims, strict=True)
    return [v if c is None else _decide(v, c, infos) for v, c in decided]


def _measure(
    claim: Claim, blank: Verdict, results: Results, infos: Mapping[str, MetricInfo]
) -> Verdict:
    """The verdict with its numbers, before the claim is decided."""
    found = find_metric(claim.metric, list(infos))
    if found is None:
        raise ValueError(f"no metric {claim.metric!r}; has: {', '.join(infos)}")
    rows = resolve(claim, results.rows)
    results.protocol(rows, found[0])
    label = infos[found[0]].label
    named = replace(blank, metric=claim.metric, label=label, a=rows[0].name, b=rows[1].name)
    scored = [results.scores(row, found[0]) for row in rows]
    missing = next((s.missing for side in scored for s in side if s.missing), "")
    if missing:
        return replace(named, reason=missing)
    sides = [s for row in rows if (s := against(results.plan, row, found[0]))]
    if len({side.comparable for side in sides}) > 1:
        one_noise = len({side.noise for side in sides}) == 1
        return replace(named, reason=REFERENCES if one_noise else FLOOR)
    suffix = _suffix(results, rows, *found)
    keys = [tuple(s.cell.scores[found[0]] for s in side) for side in scored]
    pairs, over = _pair(scored[0], scored[1], suffix)
    return _numbers(replace(named, runs=(keys[0], keys[1])), pairs, over, claim.factor)


def _suffix(results: Results, rows: Sequence[Row], metric: str, asked: str) -> str:
    if not asked:
        return ""
    have = results.suffixes(rows, metric)
    exact = next((s for s in have if normalise(s) == normalise(asked)), None)
    if exact is None:
        raise ValueError(f"{metric} has no column {asked!r}; has: {', '.join(have) or 'none'}")
    return exact


def _pair(a: Sequence[SeedScore], b: Sequence[SeedScore], suffix: str) -> tuple[list[_Pair], str]:
    """Pair by (seed, prompt) where both rows have per-sample values, else by seed."""
    left = {s.cell.seed: s.score for s in a if s.score}
    right = {s.cell.seed: s.score for s in b if s.score}
    seeds = [seed for seed in left if seed in right]
    pairs: list[_Pair] = []
    for seed in seeds:
        ours, theirs = (_by_place(side[seed].samples(suffix)) for side in (left, right))
        if not ours or not theirs:
            break
        common = [place for place in ours if place in theirs]
        pairs += [_Pair(seed, *p, ours[p].value, theirs[p].value) for p in common]
    else:
        return pairs, "prompts"
    numbers = ((s, left[s].aggregate[suffix][0], right[s].aggregate[suffix][0]) for s in seeds)
    return [_Pair(seed, 0, "", x, y) for seed, x, y in numbers], "seeds"


def _by_place(samples: Sequence[Sample]) -> dict[tuple[int, str], Sample]:
    return {(s.number, s.prompt): s for s in samples}


def _numbers(verdict: Verdict, pairs: Sequence[_Pair], over: str, factor: float | None) -> Verdict:
    """Fill in everything that can be computed from the pairs."""
    if not pairs:
        return replace(verdict, reason="no seed and prompt in common")
    scale = 1.0 if factor is None else factor
    differences = [p.a - scale * p.b for p in pairs]
    if not all(map(math.isfinite, differences)):
        return replace(verdict, reason="a value is not finite")
    difference = stats.mean(differences)
    prompts = [p.prompt for p in pairs]
    seeds = len({p.seed for p in pairs})
    if over == "prompts" and stats.prompts_are_fixed(prompts, seeds=seeds):
        over = "samples"
    units = prompts if over == "prompts" else range(len(pairs))
    sums, sizes = stats.cluster_sums(differences, units)
    by_seed, _ = stats.cluster_sums(differences, [p.seed for p in pairs])
    agree = sum(1 for s in by_seed if (s > 0) - (s < 0) == (difference > 0) - (difference < 0))
    verdict = replace(
        verdict, a_value=stats.mean([p.a for p in pairs]), b_value=stats.mean([p.b for p in pairs]),
        difference=difference, over=over, units=len(sums), pairs=len(pairs), seeds=len(by_seed),
        seeds_agree=agree,
    )  # fmt: skip
    if len(sums) < 2:
        what = "one seed and no per-sample values" if over == "seeds" else "one prompt only"
        return replace(verdict, reason=f"{what}: no interval")
    unit_means = [s / n for s, n in zip(sums, sizes, strict=True)]
    if over == "seeds" and not stats.seeds_stderr(unit_means):
        return replace(verdict, reason="the seeds do not differ: no interval")
    if over == "seeds":
        low, high, p = stats.paired_t(unit_means)
    else:
        spread = stats.within_prompts(sums, prompts) if over == "samples" else sums
        low, high = stats.bootstrap_interval(spread, sizes)
        p = stats.sign_flip_p(sums)
    return replace(verdict, low=low, high=high, p=p, effect_size=stats.effect_size(unit_means))


def _corrected(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Holm's correction over all claims that have a p-value."""
    known = [v.p for v in verdicts if v.p is not None]
    adjusted = iter(stats.holm(known))
    return [v if v.p is None else replace(v, p_holm=next(adjusted)) for v in verdicts]


def _decide(verdict: Verdict, claim: Claim, infos: Mapping[str, MetricInfo]) -> Verdict:
    low, high, p = verdict.low, verdict.high, verdict.p_holm
    if low is None or high is None or p is None:
        return verdict
    if low == high == 0:
        # No difference at all: "at least as good" is met exactly, "better" is not.
        return replace(verdict, verdict="holds" if claim.operator in (">=", "<=") else "fails")
    if low <= 0 <= high:
        return replace(verdict, reason="the interval holds zero")
    if p >= ALPHA:
        return replace(verdict, reason="not significant after Holm's correction")
    if verdict.seeds_agree < verdict.seeds:
        agree = f"{verdict.seeds_agree} of {verdict.seeds}"
        return replace(verdict, reason=f"the seeds disagree ({agree} have this sign)")
    return replace(verdict, verdict="holds" if low * _sign(claim, infos) > 0 else "fails")


def _sign(claim: Claim, infos: Mapping[str, MetricInfo]) -> int:
    """The sign of A - B that the claim asks for."""
    metric = find_metric(claim.metric, list(infos))
    assert metric is not None, "only measured claims are decided"
    upward = 1 if claim.operator.startswith(">") else -1
    literal = claim.factor is not None or infos[metric[0]].higher_is_better is not False
    return upward if literal else -upward
