"""What a fake score estimates: closed forms in one dimension against large samples (TDM)."""

from __future__ import annotations

import pytest
import torch

from distillbench.core.loss import (
    importance_weight,
    matching_direction,
)
from distillbench.core.process import NoiseProcess
from distillbench.core.solve import (
    ddim,
    mixed_noise,
    renoise,
    transition,
)

SD = NoiseProcess.scaled_linear()
Pair = tuple[torch.Tensor, torch.Tensor]


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def at(t: float | torch.Tensor, process: NoiseProcess = SD) -> Pair:
    return process.alpha_sigma(t, torch.empty(1, 1, dtype=torch.float64))


class LinearStudent:
    """x0 = A x_u in one dimension, A such that x_m has exactly the teacher's marginal."""

    data = 0.6

    def __init__(self, u: int, m: int, tau: int) -> None:
        (alpha_u, sigma_u), (alpha_m, sigma_m), self.at_tau = at(u), at(m), at(tau)
        self.std_u = (alpha_u**2 * self.data + sigma_u**2).sqrt()
        self.k = (alpha_m**2 * self.data + sigma_m**2).sqrt()
        gain = alpha_m - alpha_u * sigma_m / sigma_u
        self.a = (self.k / self.std_u - sigma_m / sigma_u) / gain
        self.c = self.a * self.std_u
        self.at_u, self.at_m = (alpha_u, sigma_u), (alpha_m, sigma_m)
        self.r, self.b = transition(*self.at_m, *self.at_tau)

    def draw(self, n: int) -> tuple[torch.Tensor, ...]:
        """(x_u, x0, noise, x_tau, eps_mix), each (n, 1)."""
        x_u, noise = self.std_u * randn(n, 1, seed=3), randn(n, 1, seed=4)
        x0 = self.a * x_u
        eps = (x_u - self.at_u[0] * x0) / self.at_u[1]
        x_tau = renoise(ddim(x0, eps, *self.at_m), noise, self.r, self.b)
        mixed = mixed_noise(eps, noise, self.r, self.b, self.at_m[1], self.at_tau[1])
        return x_u, x0, noise, x_tau, mixed

    def slopes(self) -> dict[str, float]:
        """x0 = slope * x_tau of the teacher and of the three fake scores."""
        alpha, sigma = self.at_tau
        law = self.r**2 * self.k**2 + self.b**2
        return {
            "teacher": (alpha * self.data / (alpha**2 * self.data + sigma**2)).item(),
            "a": (self.c * self.r * self.k / law).item(),
            "b": ((1 - sigma**2 / law) / alpha).item(),
            "c": (alpha * self.c**2 / (alpha**2 * self.c**2 + sigma**2)).item(),
        }


def fit(x: torch.Tensor, y: torch.Tensor, weight: torch.Tensor | float = 1.0) -> float:
    return float((weight * x * y).sum() / (weight * x * x).sum())


def test_03_10_three_fake_scores() -> None:
    student = LinearStudent(749, 500, 600)
    slopes = student.slopes()
    assert [slopes[k] for k in ("teacher", "a", "b", "c")] == pytest.approx(
        [0.2571, 0.1872, 0.2571, 0.0280], abs=1e-4
    )
    _, x0, noise, x_tau, _ = student.draw(1_000_000)
    alpha, sigma = student.at_tau
    assert fit(x_tau, x0) == pytest.approx(slopes["a"], abs=5e-3)
    eps_slope = fit(x_tau, sigma * noise / student.b)
    assert (1 - sigma.item() * eps_slope) / alpha.item() == pytest.approx(slopes["b"], abs=5e-3)


def test_03_10_exact_importance_sampling_gives_the_clean_score() -> None:
    student = LinearStudent(749, 500, 680)  # b / sigma = .85: the weight has finite variance
    _, x0, noise, x_tau, mixed = student.draw(1_000_000)
    weight = importance_weight(mixed, noise)[:, None]  # d = 1: the mean is the sum
    slope = fit(x_tau, x0, weight)
    assert student.slopes()["c"] == pytest.approx(0.0201, abs=1e-4)
    assert slope == pytest.approx(student.slopes()["c"], abs=5e-3)


def test_03_11_only_the_kernels_own_score_leaves_a_perfect_student_alone() -> None:
    student = LinearStudent(749, 500, 600)
    slopes = student.slopes()
    x_u, _, _, x_tau, _ = student.draw(1_000_000)
    for kind in ("a", "b", "c"):
        gap = slopes["teacher"] - slopes[kind]
        pull = (
            matching_direction(
                slopes["teacher"] * x_tau, slopes["teacher"] * x_tau, slopes[kind] * x_tau, 1.0
            )
            * x_u
        )  # D times dx0 / dA
        expected = gap * (student.r * student.k * student.std_u).item()
        error = 3 * pull.std().item() / 1000
        assert pull.mean().item() == pytest.approx(expected, abs=error + 1e-12)
        assert (abs(expected) < 1e-10) == (kind == "b")


def test_03_09_gaussian_gradients() -> None:
    alpha, sigma, mean, square, m, sd = 0.8, 0.6, 0.3, 0.5, 0.7, 0.6
    total, own = alpha**2 * square + sigma**2, alpha**2 * sd**2 + sigma**2
    x0, noise = randn(400_000, 1), randn(400_000, 1, seed=1)
    x_tau = alpha * (m + sd * x0) + sigma * noise
    # The scores' difference is (alpha / sigma^2) D, with exact denoisers of both Gaussians.
    x0_real = mean + alpha * square / total * (x_tau - alpha * mean)
    x0_fake = m + alpha * sd**2 / own * (x_tau - alpha * m)
    direction = matching_direction(x0_real, x0_real, x0_fake, 1.0)
    gap = -(alpha / sigma**2) * direction  # s_fake - s_real
    assert gap.mean().item() == pytest.approx(alpha * (m - mean) / total, abs=4e-3)
    assert alpha * (m - mean) / total == pytest.approx(0.47059, abs=1e-5)
    assert (alpha * gap).mean().item() == pytest.approx(0.37647, abs=4e-3)
    assert (alpha * gap * x0).mean().item() == pytest.approx(-0.08570, abs=6e-3)
