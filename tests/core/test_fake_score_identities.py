"""What a fake score estimates: closed forms in one dimension against large samples (TDM)."""

from __future__ import annotations

import pytest
import torch

from distillbench.core.loss import importance_weight
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


def test_three_fake_scores() -> None:
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


def test_exact_importance_sampling_gives_the_clean_score() -> None:
    student = LinearStudent(749, 500, 680)  # b / sigma = .85: the weight has finite variance
    _, x0, noise, x_tau, mixed = student.draw(1_000_000)
    weight = importance_weight(mixed, noise)[:, None]  # d = 1: the mean is the sum
    slope = fit(x_tau, x0, weight)
    assert student.slopes()["c"] == pytest.approx(0.0201, abs=1e-4)
    assert slope == pytest.approx(student.slopes()["c"], abs=5e-3)
