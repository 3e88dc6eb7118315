"""Values of a variance-preserving schedule between the integer times at which it is tabulated.

A training that differentiates in time (a JVP through the schedule), or a sampler whose times are
real, needs them; a time rounded to its integer would make eps(500.9) equal eps(500) and every
derivative zero, without a word.
"""

from __future__ import annotations

from distillbench.core.lazy import torch

__all__ = ["between"]


def between(
    alphas: torch.Tensor, sigmas: torch.Tensor, place: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """alpha and sigma at real places in the tables, differentiable, with alpha^2 + sigma^2 = 1.

    Linear in log-SNR. That is infinite at the clean end and, at zero terminal SNR, at the noisy
    one: in the intervals next to those, sigma or alpha is linear instead. A whole place has the
    tables' very values, and as derivative the mean of those on its two sides.

    Args:
        alphas, sigmas: (n,) float64, from the clean end (1, 0) on.
        place: (B,) or one, float64, at least 0.

    Raises:
        IndexError: a place beyond n - 1.
    """
    whole = place.detach().ceil().long()
    known = alphas[whole], sigmas[whole]
    lower = (whole - 1).clamp(min=0)
    upper = place.detach().floor().long().clamp(max=len(alphas) - 2)
    sides = [_inside(alphas, sigmas, start, place - start) for start in (lower, upper)]
    alpha, sigma = ((a + b) / 2 for a, b in zip(*sides, strict=True))
    return (
        torch.where(whole == place, known[0] + (alpha - alpha.detach()), alpha),
        torch.where(whole == place, known[1] + (sigma - sigma.detach()), sigma),
    )


def _inside(
    alphas: torch.Tensor, sigmas: torch.Tensor, start: torch.Tensor, past: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Values `past` (0 to 1) after the knots `start`."""
    # Infinite knots are replaced: a branch that is not taken must be finite all the same, or its
    # derivative times zero is not a number.
    log_snr = (2 * (alphas / sigmas).log()).nan_to_num(posinf=0.0, neginf=0.0)
    middle = log_snr[start] + past * (log_snr[start + 1] - log_snr[start])
    rising, falling = sigmas[1] * past, alphas[-2] * (1 - past)
    clean = start == 0
    noisy = (start == len(alphas) - 2) & (alphas[-1] == 0)
    alpha, sigma = middle.sigmoid().sqrt(), (-middle).sigmoid().sqrt()
    alpha = torch.where(noisy, falling, torch.where(clean, (1 - rising**2).sqrt(), alpha))
    sigma = torch.where(noisy, (1 - falling**2).sqrt(), torch.where(clean, rising, sigma))
    return alpha, sigma
