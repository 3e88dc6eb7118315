"""The two-level error against designs whose answer is known."""

from __future__ import annotations

import math
import random
from functools import cache

import pytest

from distillbench.analysis import stats
from distillbench.analysis.levels import Levels, levels, pool, trainings_needed
from distillbench.analysis.tails import f_tail, two_part_quantile, two_part_tail, wilson

PROMPTS = 25


def drawn(
    rng: random.Random, trainings: int, *, spread: float = 0.0, shared: float = 0.0
) -> list[float]:
    """Values by training, then prompt: unit noise, sd `shared` of prompts, `spread` of trainings.

    Spreads are in units of the error over prompts at one training.
    """
    error = math.sqrt((1 + shared**2) / PROMPTS)
    of_prompt = [rng.gauss(0, shared) for _ in range(PROMPTS)]
    of_training = [rng.gauss(0, spread * error) for _ in range(trainings)]
    return [t + p + rng.gauss(0, 1) for t in of_training for p in of_prompt]


def of(values: list[float], trainings: int) -> Levels:
    prompts = [str(i % PROMPTS) for i in range(len(values))]
    found = levels(values, prompts, [i // PROMPTS for i in range(trainings * PROMPTS)])
    assert found is not None
    return found


def test_the_error_sees_trainings_and_prompts() -> None:
    effects = {"a": -1.0, "b": 0.0, "c": 1.0}
    prompts, trainings = "abc" * 2, [0, 0, 0, 1, 1, 1]
    alike = levels([effects[p] for p in prompts], prompts, trainings)
    assert alike is not None
    assert alike.stderr == pytest.approx(stats.clustered_stderr([-1, 0, 1], "abc"))
    apart = levels([10.0 * t for t in trainings], prompts, trainings)
    assert apart is not None
    assert apart.stderr == pytest.approx(5.0)
    assert levels([1.0, 2.0], "aa", [0, 0]) is None


def test_variance_components_are_unbiased() -> None:
    rng, many = random.Random(3), 400
    found = [of(drawn(rng, 3, spread=1.0, shared=1.0), 3) for _ in range(many)]
    means = [f.mean for f in found]
    true = stats.mean([m * m for m in means])
    assert stats.mean([f.stderr**2 for f in found]) == pytest.approx(true, rel=0.15)


def test_one_training_is_judged_by_its_prompts() -> None:
    rng = random.Random(5)
    values = drawn(rng, 1)
    found = of(values, 1)
    assert found.stderr == pytest.approx(stats.seeds_stderr(values))
    half = 2.063899 * found.stderr  # Student's t with 24 degrees of freedom
    assert found.interval()[1] == pytest.approx(found.mean + half, rel=1e-6)


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("spread", [0.0, 0.5, 1.0])
def test_nulls_are_rarely_called_significant(seeds: int, spread: float) -> None:
    """At 3 to 6 % of true nulls, whatever trainings add; 300 draws see 9.5 % as too many."""
    rng, draws = random.Random(f"{seeds} {spread}"), 300
    wrong = sum(of(drawn(rng, seeds, spread=spread, shared=0.7), seeds).p < 0.05
                for _ in range(draws))  # fmt: skip
    assert wrong / draws <= 0.06 + 2 * math.sqrt(0.06 * 0.94 / draws)
    assert wrong / draws >= 0.03 - 2 * math.sqrt(0.03 * 0.97 / draws)


def test_intervals_and_p_values_agree() -> None:
    rng = random.Random(11)
    for _ in range(40):
        found = of(drawn(rng, 2, spread=0.5), 2)
        low, high = found.interval()
        assert (found.p < 0.05) == (low > 0 or high < 0)


def test_no_spread_at_all_is_certain() -> None:
    same = levels([2.0] * 4, "abab", [0, 0, 1, 1])
    assert same is not None
    assert (same.interval(), same.p) == ((2.0, 2.0), 0.0)


# ---- pooling -------------------------------------------------------------------------------


def rows(rng: random.Random, sds: list[float], seeds: int) -> list[list[float]]:
    common = [rng.gauss(0, 5) for _ in range(seeds)]
    return [[c + rng.gauss(0, sd) for c in common] for sd in sds]


def test_the_pooled_spread_is_that_of_differences() -> None:
    rng = random.Random(1)
    found = [pool(r[:2], r[2:]) for r in (rows(rng, [1.0] * 8, 3) for _ in range(300))]
    passed = [f for f in found if f]
    assert len(passed) / len(found) == pytest.approx(0.8, abs=0.07)
    assert {(f.df, f.rows) for f in passed} == {(14, 8)}
    assert stats.mean([f.variance for f in passed]) == pytest.approx(2 / 3, rel=0.08)


def test_a_pair_that_is_noisier_than_the_rest_is_not_pooled() -> None:
    rng = random.Random(2)
    found = [pool(r[:2], r[2:]) for r in (rows(rng, [6.0, *[1.0] * 7], 5) for _ in range(100))]
    assert sum(f is not None for f in found) <= 5
    assert pool([[1.0, 2.0], [2.0, 1.0]], [[1.0, 3.0]]) is None
    assert pool([[1.0], [2.0]], [[1.0], [3.0]]) is None


def test_pooling_keeps_the_false_positives_of_one_noisy_method_low() -> None:
    """The pooled verdict of two rows of eight, one with twice the spread of trainings."""
    rng, wrong, draws = random.Random(4), 0, 400
    for _ in range(draws):
        drawn_rows = rows(rng, [2.0, *[1.0] * 7], 3)
        error = _seeds_only(drawn_rows[0], drawn_rows[1])
        found = pool(drawn_rows[:2], drawn_rows[2:])
        if found:
            error = Levels(error.mean, 3, 1, found.variance, 1.0, 0.0, found.df, 399)
        wrong += error.p < 0.05
    assert wrong / draws <= 0.08


def _seeds_only(a: list[float], b: list[float]) -> Levels:
    differences = [x - y for x, y in zip(a, b, strict=True)]
    by_training = (stats.seeds_stderr(differences) or 0.0) ** 2
    return Levels(stats.mean(differences), 3, 1, by_training, 1.0, 0.0, 2, 399)


# ---- power ---------------------------------------------------------------------------------


def test_more_seeds_than_needed_are_not_asked_for() -> None:
    found = Levels(1.0, 3, 400, 0.25, 0.01, 0.05, 2, 399)
    needed = trainings_needed(found, 400)
    assert needed is not None
    assert needed > 3
    assert trainings_needed(found, 1600) <= needed  # type: ignore[operator]
    assert trainings_needed(Levels(5.0, 3, 400, 0.25, 0.01, 0.05, 2, 399), 400) == 3
    assert trainings_needed(Levels(1e-3, 3, 400, 0.25, 0.01, 0.05, 2, 399), 400) is None
    assert found.at(3, 400).stderr == pytest.approx(found.stderr)


# ---- tails ---------------------------------------------------------------------------------


STUDENT = [(1, 12.70620), (2, 4.302653), (3, 3.182446), (9, 2.262157), (30, 2.042272)]


@pytest.mark.parametrize(("df", "critical"), [*STUDENT, (10_000, 1.959964)])
def test_one_part_alone_is_student(df: int, critical: float) -> None:
    for parts, dfs in (((2.0, 0.0), (df, 7)), ((0.0, 3.0), (4, df))):
        assert two_part_quantile(0.95, parts, dfs) == pytest.approx(critical, rel=2e-6)
        assert two_part_tail(critical, parts, dfs) == pytest.approx(0.05, rel=1e-5)


PARTS = [((0.3, 0.7), (1, 199)), ((0.6, 0.4), (2, 9)), ((0.9, 0.1), (14, 9)), ((1.0, 1.0), (1, 1))]


@pytest.mark.parametrize(("parts", "dfs"), PARTS)
def test_intervals_are_where_the_p_value_is(
    parts: tuple[float, float], dfs: tuple[int, int]
) -> None:
    lengths = []
    for level in (0.5, 0.9, 0.95, 0.99, 0.9999):
        lengths.append(two_part_quantile(level, parts, dfs))
        assert two_part_tail(lengths[-1], parts, dfs) == pytest.approx(1 - level, rel=1e-5)
        # In whatever order and unit the parts are given.
        turned = (5 * parts[1], 5 * parts[0]), (dfs[1], dfs[0])
        assert two_part_quantile(level, *turned) == pytest.approx(lengths[-1])
    assert lengths == sorted(lengths)


def test_p_values_lie_between_those_of_the_two_parts() -> None:
    for x in (0.0, 0.5, 2.0, 4.0, 40.0, 1e4):
        light, heavy = (two_part_tail(x, (1.0, 0.0), (df, 5)) for df in (199, 1))
        assert light <= two_part_tail(x, (0.3, 0.7), (1, 199)) <= heavy
    assert two_part_tail(0.0, (0.3, 0.7), (1, 199)) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("df", "least", "most"),
    [(1, 0.9425, 0.97), (2, 0.95, 0.967), (4, 0.95, 0.963), (14, 0.95, 0.955)],
)
def test_intervals_hold_the_truth_as_often_as_they_say(df: int, least: float, most: float) -> None:
    """Exactly, by integration: a known error over prompts beside that of df + 1 trainings."""
    for share in (0.0, 0.05, 0.1, 0.2, 1 / 3, 0.5, 0.6, 0.75, 0.85, 0.9, 0.95, 0.99, 1.0):
        found = covered(df, share)
        assert least - 1e-3 <= found <= most + 1e-3, share


def covered(df: int, share: float) -> float:
    """The chance of the interval where trainings make `share` of the error's square."""
    logs = [math.log(1e-7) + i * math.log(6e8) / 800 for i in range(801)]
    weights = [math.exp(df / 2 * (u - math.exp(u) + 1)) for u in logs]
    return math.fsum(
        w * math.erf(length(df, share * math.exp(u), 1 - share) / math.sqrt(2))
        for u, w in zip(logs, weights, strict=True)
    ) / math.fsum(weights)


def length(df: int, a: float, b: float) -> float:
    """Half an interval at those parts, between 65 that are computed."""
    place = math.asin(math.sqrt(a / (a + b))) / math.pi * 128
    low = min(int(place), 63)
    one, two = (critical(df, i) for i in (low, low + 1))
    return (one + (two - one) * (place - low)) * math.sqrt(a + b)


@cache
def critical(df: int, index: int) -> float:
    a = math.sin(index * math.pi / 128) ** 2
    return two_part_quantile(0.95, (a, 1 - a), (df, 10_000))


def test_f_and_wilson_of_the_tables() -> None:
    assert f_tail(4.2565, 2, 9) == pytest.approx(0.05, rel=1e-3)
    assert f_tail(161.4476, 1, 1) == pytest.approx(0.05, rel=1e-5)
    assert f_tail(0.0, 2, 9) == 1.0
    # A t squared is an F with one degree of freedom above.
    assert f_tail(2.5**2, 1, 7) == pytest.approx(two_part_tail(2.5, (1.0, 0.0), (7, 1)))
    assert wilson(0.5, 100) == pytest.approx((0.40383, 0.59617), abs=1e-5)
    assert wilson(0.0, 10) == pytest.approx((0.0, 0.27753), abs=1e-5)
