"""Moving along and across trajectories: ODE steps, trajectory functions, the noising kernel.

Every function takes alpha and sigma that broadcast to the samples (see
`NoiseProcess.alpha_sigma`); indices name the time: t start, s end, m middle, tau re-noised.
"""

from __future__ import annotations

from collections.abc import Callable

from distillbench.core.lazy import torch
from distillbench.core.process import NoiseProcess, per_sample

__all__ = [
    "boundary_scalings", "consistency_function", "ddim", "mixed_noise", "renoise",
    "second_order_jump", "second_order_step", "transition",
]  # fmt: skip


def ddim(
    x0: torch.Tensor, eps: torch.Tensor, alpha: torch.Tensor, sigma: torch.Tensor
) -> torch.Tensor:
    """One deterministic DDIM step (arXiv 2010.02502, eq. 12 with eta 0) to alpha, sigma's time.

    Also TCD's first-order trajectory function TCF(1) in all its forms (arXiv 2402.19159) and, for
    flow matching, the Euler step x - (t - s) v.
    """
    return alpha * x0 + sigma * eps


def second_order_step(
    x_t: torch.Tensor,
    x0_t: torch.Tensor,
    x0_m: torch.Tensor,
    t: tuple[torch.Tensor, torch.Tensor],
    m: tuple[torch.Tensor, torch.Tensor],
    s: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    """TCD's TCF(2), the data-prediction form shaped like DPM-Solver++(2S) (arXiv 2211.01095).

    x_s = (sigma_s / sigma_t) x_t - alpha_s (e^-h - 1) [(1 - 1/2r) x0_t + (1/2r) x0_m] with
    h = lambda_s - lambda_t, r = (lambda_m - lambda_t) / h, lambda = log(alpha / sigma).

    Args:
        x_t: start, and x0_t the prediction there.
        x0_m: prediction at x_m = ddim step of x_t to m, with s < m < t.
        t, m, s: (alpha, sigma) of the three times; sigma_s > 0, as h is infinite at the clean end.
    """
    (alpha_t, sigma_t), (alpha_m, sigma_m), (alpha_s, sigma_s) = t, m, s
    lambda_t, lambda_m, lambda_s = (
        (a / b).log() for a, b in ((alpha_t, sigma_t), (alpha_m, sigma_m), (alpha_s, sigma_s))
    )
    h = lambda_s - lambda_t
    share = h / (2 * (lambda_m - lambda_t))  # 1 / 2r
    x0 = (1 - share) * x0_t + share * x0_m
    return sigma_s / sigma_t * x_t - alpha_s * torch.expm1(-h) * x0


def second_order_jump(
    process: NoiseProcess,
    x_t: torch.Tensor,
    x0_t: torch.Tensor,
    eps_t: torch.Tensor,
    t: torch.Tensor,
    s: torch.Tensor,
    x0_at: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """TCF(2) between any two times s <= t, through the time halfway in half log-SNR.

    `second_order_step` where there is a time between; the first-order step where there is none and
    from a time without signal, and its limit x0_m at the clean end; h is infinite at both (our
    choice: the paper ends at time 0).

    Args:
        x_t, x0_t, eps_t: the start and the prediction there.
        t, s: (B,) times.
        x0_at: (x_m, m) -> x0, the second evaluation.
    """
    m = process.halfway(t, s.clamp(min=0))
    at_t, at_m, at_s = (process.alpha_sigma(time, x_t) for time in (t, m, s))
    x0_m = x0_at(ddim(x0_t, eps_t, *at_m), m)
    lambda_t, lambda_m, lambda_s = ((a / b).log() for a, b in (at_t, at_m, at_s))
    share = (lambda_s - lambda_t) / (2 * (lambda_m - lambda_t))
    inside = (per_sample(m < t, x_t) > 0) & (at_t[0] > 0)
    share = torch.where(inside, torch.where(at_s[1] == 0, 1.0, share), 0.0)
    # -alpha_s (e^-h - 1) in a form that is finite at the clean end.
    ratio = at_s[1] / at_t[1]
    return ratio * x_t + (at_s[0] - ratio * at_t[0]) * ((1 - share) * x0_t + share * x0_m)


def transition(
    alpha_m: torch.Tensor, sigma_m: torch.Tensor, alpha_tau: torch.Tensor, sigma_tau: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(r, b) of the kernel q(x_tau | x_m) = N(r x_m, b^2), tau at or above m in noise.

    r = alpha_tau / alpha_m, b = sqrt(sigma_tau^2 - r^2 sigma_m^2).
    """
    r = alpha_tau / alpha_m
    return r, (sigma_tau**2 - r**2 * sigma_m**2).clamp(min=0).sqrt()


def renoise(
    x_m: torch.Tensor, noise: torch.Tensor, r: torch.Tensor, b: torch.Tensor
) -> torch.Tensor:
    """A draw x_tau = r x_m + b noise from the kernel of `transition`."""
    return r * x_m + b * noise


def mixed_noise(
    eps: torch.Tensor,
    noise: torch.Tensor,
    r: torch.Tensor,
    b: torch.Tensor,
    sigma_m: torch.Tensor,
    sigma_tau: torch.Tensor,
) -> torch.Tensor:
    """The noise seen from x0: x_tau = alpha_tau x0 + sigma_tau mixed (TDM, arXiv 2503.06674).

    mixed = (r sigma_m eps + b noise) / sigma_tau, where x_m = alpha_m x0 + sigma_m eps.
    """
    return (r * sigma_m * eps + b * noise) / sigma_tau


def boundary_scalings(
    t: torch.Tensor, sigma_data: float = 0.5, timestep_scaling: float = 10.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """c_skip and c_out of latent consistency models (arXiv 2310.04378, section 4.1), float64.

    With tau = timestep_scaling * t (t the time index, not t / 1000; 1000 sigma of flow models):
    c_skip = d^2 / (tau^2 + d^2), c_out = tau / sqrt(tau^2 + d^2), so that time 0, and CLEAN, give
    (1, 0).
    """
    tau = timestep_scaling * t.double().clamp(min=0)
    norm = tau**2 + sigma_data**2
    return sigma_data**2 / norm, tau / norm.sqrt()


def consistency_function(
    x_t: torch.Tensor, x0: torch.Tensor, t: torch.Tensor, *, timestep_scaling: float = 10.0
) -> torch.Tensor:
    """f(x_t, t) = c_skip x_t + c_out x0 (LCM, arXiv 2310.04378, eq. 9); the identity at time 0."""
    c_skip, c_out = boundary_scalings(t, timestep_scaling=timestep_scaling)
    return per_sample(c_skip, x_t) * x_t + per_sample(c_out, x_t) * x0
