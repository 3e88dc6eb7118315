"""Distances, weights and gradient surrogates; every mean is over the batch and all its elements."""

from __future__ import annotations

from typing import Literal

from distillbench.core.lazy import torch

__all__ = [
    "Gan", "abs_mean_normalizer", "adversarial_loss", "discriminator_loss", "gradient_surrogate",
    "importance_weight", "min_snr", "pseudo_huber", "sample_mean", "squared_error",
]  # fmt: skip


Gan = Literal["softplus", "hinge"]


def sample_mean(values: torch.Tensor) -> torch.Tensor:
    """Mean over all but the batch: (B, ...) to (B,)."""
    return values.flatten(1).mean(1)


def squared_error(
    pred: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None
) -> torch.Tensor:
    """mean_B [ weight * mean_i (pred - target)_i^2 ], `weight` (B,) or (B, 1, .., 1)."""
    return _weighted_mean(sample_mean((pred - target) ** 2), weight)


def pseudo_huber(
    pred: torch.Tensor,
    target: torch.Tensor,
    c: float,
    *,
    form: Literal["vector", "element"] = "element",
    weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """Pseudo-Huber distance sqrt(r^2 + c^2) - c of r = pred - target.

    "element" applies it to each element and averages them (LCM's scripts and TDM's released code,
    c = 1e-3); "vector" applies it to the norm of a whole sample, undivided by its size d (TDM,
    arXiv 2503.06674, with c = 0.00054 sqrt(d)), so each sample's gradient has norm below 1 / B.

    Args:
        weight: (B,) or (B, 1, .., 1), multiplies each sample's distance.
    """
    square = (pred - target) ** 2
    if form == "vector":
        distance = (square.flatten(1).sum(1) + c**2).sqrt() - c
    else:
        distance = sample_mean((square + c**2).sqrt() - c)
    return _weighted_mean(distance, weight)


def abs_mean_normalizer(x0: torch.Tensor, x0_real: torch.Tensor) -> torch.Tensor:
    """W = mean_i |x0 - x0_real|, (B, 1, .., 1), without gradient (DMD, arXiv 2311.18828, eq. 8).

    At least 1e-5: a student that equals its teacher would divide by zero.
    """
    distance = (x0 - x0_real).abs().detach()
    return distance.mean(tuple(range(1, x0.ndim)), keepdim=True).clamp(min=1e-5)


def importance_weight(eps_mix: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """TDM's weight of samples drawn near the trajectory, (B,) (arXiv 2503.06674, eq. 7).

    exp(-mean eps_mix^2 / 2 + mean noise^2 / 2). The released code takes means where the ratio
    q(x_tau | x0) / q(x_tau | x_m) has sums and drops its constant; so it is the ratio to the power
    1 / d, close to 1 for images.
    """
    return (0.5 * (sample_mean(noise**2) - sample_mean(eps_mix**2))).exp()


def min_snr(snr: torch.Tensor, gamma: float = 5.0) -> torch.Tensor:
    """min(SNR, gamma), the weight of an x0 error (arXiv 2303.09556)."""
    return snr.clamp(max=gamma)


def gradient_surrogate(x: torch.Tensor, grad: torch.Tensor) -> torch.Tensor:
    """A loss whose gradient at x is grad / numel (DMD2, arXiv 2405.14867): half MSE to x - grad."""
    return 0.5 * ((x - (x - grad).detach()) ** 2).mean()


def discriminator_loss(
    fake: torch.Tensor, real: torch.Tensor, kind: Gan = "softplus"
) -> torch.Tensor:
    """softplus(D(fake)) + softplus(-D(real)) of logits (B, 1) (DMD2, arXiv 2405.14867, eq. 4).

    Or relu(1 + D(fake)) + relu(1 - D(real)), the hinge (ADD, arXiv 2311.17042).
    """
    f = torch.nn.functional
    if kind == "hinge":
        return f.relu(1 + fake).mean() + f.relu(1 - real).mean()
    return f.softplus(fake).mean() + f.softplus(-real).mean()


def adversarial_loss(fake: torch.Tensor, kind: Gan = "softplus") -> torch.Tensor:
    """softplus(-D(fake)), which the student lowers; of the hinge -D(fake)."""
    return -fake.mean() if kind == "hinge" else torch.nn.functional.softplus(-fake).mean()


def _weighted_mean(values: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    return values.mean() if weight is None else (weight.reshape(-1) * values).mean()
