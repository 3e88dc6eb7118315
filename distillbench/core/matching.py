"""Re-noised states of a student's trajectory, and losses made of two scores there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from distillbench.core.lazy import torch
from distillbench.core.loss import importance_weight, min_snr, sample_mean, squared_error
from distillbench.core.process import NoiseProcess
from distillbench.core.solve import ddim, mixed_noise, renoise, transition

__all__ = ["Renoised", "fake_loss", "fisher_surrogate", "renoised"]


@dataclass(frozen=True)
class Renoised:
    """A student sample carried back up to time tau, x_tau ~ q(x_tau | x_m).

    Attributes:
        x_tau: (B, ...); equals alpha_tau x0 + sigma_tau eps_mix.
        tau: (B,) times.
        noise: the fresh noise n; eps_mix the noise seen from x0.
        fresh_noise_fraction: b / sigma_tau, the fresh part of the noise's standard deviation.
    """

    x_tau: torch.Tensor
    tau: torch.Tensor
    noise: torch.Tensor
    eps_mix: torch.Tensor
    fresh_noise_fraction: torch.Tensor


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


def fake_loss(
    process: NoiseProcess,
    f_psi: torch.Tensor,
    eps_psi: torch.Tensor,
    at: Renoised,
    x0: torch.Tensor,
    *,
    target: Literal["x0", "dsm"] = "x0",
    weighted: bool = True,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The fake score's regression at (x_tau, tau), and its mean importance weight.

    "x0" (TDM, arXiv 2503.06674, eq. 7): importance weight times min(SNR, 5) times the squared error
    to the student's clean prediction; equal to min(1, 5 / SNR) times the error of eps against
    eps_mix. Without the SNR weight the loss is dominated by the cleanest times and fails visibly.
    "dsm": denoising score matching under the kernel q(x_tau | x_m), whose minimiser is the exact
    score of the re-noised student; (b / sigma)^2 times the error against sigma n / b.

    Args:
        f_psi, eps_psi: the fake score's prediction, x0 and noise.
        x0: the student's clean prediction behind x_tau, taken as data.
        weighted: False leaves the importance weight out: E[x0 | x_tau] under the sampled law.
    """
    snr = process.snr(at.tau)
    if target == "dsm":
        loss = squared_error(at.fresh_noise_fraction * eps_psi, at.noise, min_snr(snr) / snr)
        return loss, torch.ones_like(loss)
    weight = importance_weight(at.eps_mix, at.noise) if weighted else torch.ones_like(snr)
    return squared_error(f_psi, x0.detach(), weight * min_snr(snr)), weight.mean()


def fisher_surrogate(
    x0: torch.Tensor,
    real: torch.Tensor,
    fake: torch.Tensor,
    weight: torch.Tensor | None,
    alpha: float = 1.0,
) -> torch.Tensor:
    """<f_real - f_fake, f_real - x0 - alpha (f_real - f_fake)> (SiD, arXiv 2404.04057).

    alpha = 1 is <f_real - f_fake, f_fake - x0>, TDM's Fisher divergence (table 8).

    In x0 space and up to a factor of sigma^4 / alpha^2 the divergence is E |f_real - f_fake|^2. If
    f_fake is E[x0 | x_tau] and gradients flow through x_tau, both scores and x0, this form has half
    its gradient at a fixed sampling law (score identity, arXiv 2404.04057, with alpha = 1). The
    formula and its `weight`, (B, 1, ..), are our choice; the paper does not say.
    """
    towards = fake - x0 if alpha == 1 else real - x0 - alpha * (real - fake)
    product = sample_mean((real - fake) * towards)
    return (product if weight is None else weight.reshape(-1) * product).mean()
