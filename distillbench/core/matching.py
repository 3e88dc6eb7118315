"""Re-noised states of a student's trajectory, and losses made of two scores there."""

from __future__ import annotations

from dataclasses import dataclass

from distillbench.core.lazy import torch
from distillbench.core.loss import sample_mean
from distillbench.core.process import NoiseProcess
from distillbench.core.solve import ddim, mixed_noise, renoise, transition

__all__ = ["Renoised", "fisher_surrogate", "renoised"]


@dataclass(frozen=True)
class Renoised:
    """A student sample carried back up to time tau, x_tau ~ q(x_tau | x_m).

    Attributes:
        x_tau: (B, ...); equals alpha_tau x0 + sigma_tau eps_mix.
        tau: (B,) times.
        noise: the fresh noise n; eps_mix the noise seen from x0.
        share: b / sigma_tau, the fresh part of the noise's standard deviation.
    """

    x_tau: torch.Tensor
    tau: torch.Tensor
    noise: torch.Tensor
    eps_mix: torch.Tensor
    share: torch.Tensor


def renoised(
    process: NoiseProcess,
    x0: torch.Tensor,
    eps: torch.Tensor,
    m: torch.Tensor,
    tau: torch.Tensor,
    noise: torch.Tensor,
    *,
    detach: bool = True,
) -> Renoised:
    """Step from a prediction (x0, eps) to x_m, then noise it up to tau; detached by default.

    m = CLEAN makes x_m the clean prediction x0 itself and x_tau = alpha_tau x0 + sigma_tau n, which
    is DMD's and DMD2's re-noising.
    """
    if detach:
        x0, eps = x0.detach(), eps.detach()
    alpha_m, sigma_m = process.alpha_sigma(m, x0)
    alpha, sigma = process.alpha_sigma(tau, x0)
    r, b = transition(alpha_m, sigma_m, alpha, sigma)
    x_tau = renoise(ddim(x0, eps, alpha_m, sigma_m), noise, r, b)
    eps_mix = mixed_noise(eps, noise, r, b, sigma_m, sigma)
    return Renoised(x_tau, tau, noise, eps_mix, b / sigma)


def fisher_surrogate(
    x0: torch.Tensor,
    real: torch.Tensor,
    fake: torch.Tensor,
    weight: torch.Tensor | None,
) -> torch.Tensor:
    """<f_real - f_fake, f_fake - x0>, whose gradient lowers the Fisher divergence (TDM, table 8).

    In x0 space and up to a factor of sigma^4 / alpha^2 the divergence is E |f_real - f_fake|^2. If
    f_fake is E[x0 | x_tau] and gradients flow through x_tau, both scores and x0, this form has half
    its gradient at a fixed sampling law (score identity, arXiv 2404.04057, with alpha = 1). The
    formula and its `weight`, (B, 1, ..), are our choice; the paper does not say.
    """
    product = sample_mean((real - fake) * (fake - x0))
    return (product if weight is None else weight.reshape(-1) * product).mean()
