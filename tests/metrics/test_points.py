"""SW, MMD^2 and coverage against what is known exactly of the mixture world."""

from __future__ import annotations

import importlib
import math
from typing import Any

import pytest
import torch

from distillbench.api.metric import Samples, Scores
from distillbench.api.registry import METRICS, build_metric
from distillbench.backbones._gmm import ExactMixture, exact_prediction, process
from distillbench.core.process import CLEAN
from distillbench.errors import BadInput
from distillbench.score.evaluate import evaluate
from distillbench.score.exact import by_condition
from distillbench.world.mixture import labels_of, mixture


def module_of(name: str) -> Any:
    return importlib.import_module(METRICS.get(name).__module__)


def prompts_for(per_condition: int) -> list[str]:
    return [f"condition {i % 8}" for i in range(8 * per_condition)]


def as_samples(data: torch.Tensor, prompts: list[str]) -> Samples:
    return Samples(data, prompts, [""] * len(prompts), 0)


def exact(per_condition: int, seed: int = 0) -> Samples:
    prompts = prompts_for(per_condition)
    rng = torch.Generator().manual_seed(seed)
    return as_samples(ExactMixture().sample(torch.tensor(labels_of(prompts)), rng), prompts)


def ddim(steps: int, per_condition: int, seed: int = 0) -> Samples:
    """The exact score's DDIM samples on trailing times with a clean end."""
    prompts = prompts_for(per_condition)
    labels, world = torch.tensor(labels_of(prompts)), ExactMixture()
    x = torch.randn(len(prompts), 2, generator=torch.Generator().manual_seed(seed))
    times = [(i + 1) * 1000 // steps - 1 for i in reversed(range(steps))]
    for t, following in zip(times, [*times[1:], CLEAN], strict=True):
        out = exact_prediction(world, x, torch.full((len(x),), t), [labels], 1.0)
        alpha, sigma = process().alpha_sigma(torch.full((len(x),), following), x)
        x = alpha * out.x0 + sigma * out.eps
    return as_samples(x, prompts)


def score(name: str, samples: Samples) -> Scores:
    return evaluate(build_metric(name, {}), samples)


@pytest.mark.parametrize(
    ("steps", "sw", "mmd"), [(1, 0.632, 671), (2, 0.381, 216), (4, 0.196, 84), (8, 0.094, 24)]
)
def test_the_ladder_of_exact_ddim(steps: int, sw: float, mmd: float) -> None:
    """Near the values measured on another draw of the same kind of world."""
    samples = ddim(steps, 512)
    assert score("sw", samples).aggregate[""] == pytest.approx(sw, rel=0.12)
    assert score("mmd", samples).aggregate[""] == pytest.approx(mmd, rel=0.2)


def test_exact_samples_sit_at_the_floor() -> None:
    samples = exact(2048)
    assert score("sw", samples).aggregate[""] < 0.03
    assert score("sw", exact(64)).aggregate[""] > score("sw", samples).aggregate[""]
    found = score("coverage", samples).aggregate
    assert found[""] == 1.0
    # Two-dimensional Gaussian within three standard deviations.
    assert found["within"] == pytest.approx(1 - math.exp(-4.5), abs=0.003)
    assert found["balance"] > 0.97


def test_sw_of_a_shift_is_its_mean_projection() -> None:
    """Moving the exact samples by r costs r |cos| in each direction, 2 r / pi on average."""
    samples = exact(512)
    moved = as_samples(samples.data + torch.tensor([3.0, 0.0]), list(samples.prompts))
    assert score("sw", moved).aggregate[""] == pytest.approx(3 * 2 / math.pi, rel=0.02)


def test_quantiles_invert_the_projected_distribution() -> None:
    condition = by_condition(exact(8))[2]
    direction = torch.tensor([[0.6], [0.8]], dtype=torch.float64)
    levels = torch.linspace(0.005, 0.995, 41, dtype=torch.float64)
    found = module_of("sw").quantiles(condition, direction, levels)[:, 0]
    standard = (found[:, None] - (condition.centres @ direction)[:, 0]) / condition.std
    cdf = (torch.special.ndtr(standard) * condition.weights).sum(dim=1)
    assert torch.allclose(cdf, levels, atol=1e-4)


def test_mmd_kernel_expectations_are_those_of_samples() -> None:
    condition = by_condition(exact(8))[0]
    rng = torch.Generator().manual_seed(3)
    point = torch.tensor([[0.1, -0.4]], dtype=torch.float64)
    draws = condition.centres[:1] + condition.std * torch.randn(
        200_000, 2, generator=rng, dtype=torch.float64
    )
    kernel = module_of("mmd").kernel
    sampled = kernel((draws - point).square().sum(dim=1)).mean()
    square = (condition.centres[0] - point[0]).square().sum()
    assert float(kernel(square, condition.std**2)) == pytest.approx(float(sampled), rel=0.01)


def test_mmd_is_unbiased_and_its_error_is_honest() -> None:
    found = [score("mmd", exact(40, seed)) for seed in range(60)]
    values = torch.tensor([s.aggregate[""] for s in found])
    spread = float(values.std())
    assert abs(float(values.mean())) < 3 * spread / 60**0.5
    assert min(values) < 0, "an unbiased estimate of zero is negative at times"
    errors = [s.stderr[""] for s in found]
    assert 0.6 < sum(errors) / len(errors) / spread < 1.7


def test_mmd_jackknife_equals_leaving_each_point_out() -> None:
    condition = by_condition(exact(12, 5))[1]
    discrepancy = module_of("mmd").discrepancy
    left = []
    for i in range(12):
        stay = [j for j in range(12) if j != i]
        parts = (condition.centres, condition.weights, condition.std)
        short = type(condition)(condition.index[stay], condition.points[stay], *parts)
        left.append(discrepancy(short)[0])
    values = torch.tensor(left, dtype=torch.float64)
    expected = ((values - values.mean()).square().sum() * 11 / 12).sqrt()
    assert discrepancy(condition)[1] == pytest.approx(float(expected), rel=1e-9)


def test_a_dropped_mode_is_seen() -> None:
    """All samples of condition 0 moved onto its first mode: one mode of four, weight w_0."""
    prompts = ["condition 0"] * 200
    rng = torch.Generator().manual_seed(1)
    centre = torch.tensor(mixture().centres[0][0])
    data = centre + 0.08 * torch.randn(200, 2, generator=rng)
    found = score("coverage", as_samples(data, prompts)).aggregate
    assert found[""] == 0.25
    assert found["balance"] == pytest.approx(mixture().weights[0][0])
    assert found["within"] > 0.95


def test_within_is_judged_per_sample_and_by_the_own_condition() -> None:
    first, other = mixture().centres[0][0], mixture().centres[1]
    foreign = next(c for c in other if min(math.dist(c, own) for own in mixture().centres[0]) > 0.4)
    data = torch.tensor([first, foreign, (9.0, 9.0)])
    scores = score("coverage", as_samples(data, ["condition 0"] * 3))
    assert scores.per_sample["within"] == [1.0, 0.0, 0.0]


def test_prompts_of_another_world_are_refused() -> None:
    samples = as_samples(torch.zeros(4, 2), ["a red square"] * 4)
    with pytest.raises(BadInput, match="condition 0 to condition 7"):
        score("sw", samples)
    with pytest.raises(BadInput, match="empty prompt"):
        score("coverage", as_samples(torch.zeros(4, 2), [""] * 4))
    with pytest.raises(BadInput, match=r"needs 3"):
        score("mmd", as_samples(torch.zeros(2, 2), ["condition 0"] * 2))
