"""Statistics against closed forms and exact enumeration."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from distillbench.analysis import stats


def test_stderr_of_single_values_is_the_textbook_one() -> None:
    values = [1.0, 2.0, 4.0, 9.0]
    variance = sum((v - 4.0) ** 2 for v in values) / 3
    assert stats.clustered_stderr(values, "abcd") == pytest.approx(math.sqrt(variance / 4))
    assert stats.seeds_stderr(values) == pytest.approx(math.sqrt(variance / 4))
    assert stats.seeds_stderr([1.0]) is None


def test_repeating_a_prompt_adds_no_certainty() -> None:
    values = [1.0, 2.0, 4.0, 9.0]
    once = stats.clustered_stderr(values, "abcd")
    assert stats.clustered_stderr(values * 5, "abcd" * 5) == pytest.approx(once)
    assert stats.clustered_stderr(values, "aaaa") is None


def test_a_small_world_of_prompts_is_fixed_and_its_spread_is_taken_out() -> None:
    prompts = ["x", "y"] * 10
    assert stats.prompts_are_fixed(prompts)
    assert not stats.prompts_are_fixed(prompts[:6])
    assert not stats.prompts_are_fixed(prompts * 10, seeds=20)  # one of each prompt a seed
    assert not stats.prompts_are_fixed([str(i % 20) for i in range(400)])
    values = [(5.0 if p == "y" else 1.0) + 0.1 * (i // 2) for i, p in enumerate(prompts)]
    inside = stats.within_prompts(values, prompts)
    assert stats.mean(inside) == pytest.approx(stats.mean(values))
    assert max(inside) - min(inside) == pytest.approx(0.9 * math.sqrt(19 / 18))


def test_errors_inside_prompts_are_those_of_a_model_with_a_mean_each() -> None:
    """sqrt(SSR / (n - G) / n), as an analysis of variance has it."""
    rng = random.Random(0)
    prompts = [str(i % 8) for i in range(80)]
    values = [int(p) + rng.gauss(0, 1) for p in prompts]
    means = {p: stats.mean([v for v, q in zip(values, prompts) if q == p]) for p in set(prompts)}
    squares = sum((v - means[p]) ** 2 for v, p in zip(values, prompts))
    inside = stats.within_prompts(values, prompts)
    found = stats.clustered_stderr(inside, range(80))
    assert found == pytest.approx(math.sqrt(squares / 72 / 80))


def test_bootstrap_interval_of_a_normal_mean() -> None:
    rng = random.Random(1)
    values = [rng.gauss(0.5, 1.0) for _ in range(400)]
    low, high = stats.bootstrap_interval(values, [1] * 400)
    error = stats.seeds_stderr(values)
    assert error is not None
    assert low == pytest.approx(stats.mean(values) - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(stats.mean(values) + 1.96 * error, abs=0.1 * error)
    assert (low, high) == stats.bootstrap_interval(values, [1] * 400)


def test_bootstrap_weighs_clusters_by_size() -> None:
    low, high = stats.bootstrap_interval([2.0, 30.0], [1, 10])
    assert (low, high) == (2.0, 3.0)


def test_sign_flip_is_exact_for_few_clusters() -> None:
    sums = [0.3, 0.1, -0.2, 0.5, 0.4]
    hits = 0
    for signs in itertools.product((1, -1), repeat=5):
        hits += abs(sum(s * v for s, v in zip(signs, sums, strict=True))) >= sum(sums) - 1e-12
    assert stats.sign_flip_p(sums) == pytest.approx(hits / 32)
    assert stats.sign_flip_p([1.0] * 8) == pytest.approx(2 / 256)


def test_sign_flip_is_uniform_under_the_null() -> None:
    rng = random.Random(3)
    drawn = [[rng.gauss(0, 1) for _ in range(30)] for _ in range(300)]
    p_values = sorted(stats.sign_flip_p(sums, flips=199) for sums in drawn)
    distance = max(abs(p - (i + 0.5) / 300) for i, p in enumerate(p_values))
    assert distance < 1.36 / math.sqrt(300) + 0.01  # Kolmogorov-Smirnov at 5 %, p in steps of .005


def test_sign_flip_sees_a_real_difference() -> None:
    rng = random.Random(4)
    assert stats.sign_flip_p([rng.gauss(0.5, 1) for _ in range(200)]) == 1 / 5000


def test_holm_by_hand() -> None:
    adjusted = stats.holm([0.01, 0.04, 0.03, 0.005])
    assert adjusted == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([0.6, 0.5]) == [1.0, 1.0]
    assert stats.holm([]) == []


def test_effect_size_is_mean_over_sd() -> None:
    assert stats.effect_size([1.0, 2.0, 3.0]) == pytest.approx(2.0)
    assert stats.effect_size([1.0, 1.0]) is None
