"""Straight paths, and piecewise ones (PeRFlow, arXiv 2405.07510): what a noise says of their end.

In a window from time s down to e, in training times, a state moves on the straight line between
x_s and x_e. A network is read as the noise eps in x_e = l x_s + n eps with l = alpha_e / alpha_s.
Times and factors are numbers, or tensors that broadcast to the samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from distillbench.core.lazy import torch

if TYPE_CHECKING:
    from distillbench.core.process import NoiseProcess

__all__ = ["Reads", "factors", "on_line", "straight", "window_end"]

Reads = Literal["diff_eps", "ddim_eps"]
AlphaSigma = tuple["torch.Tensor", "torch.Tensor"]


def factors(reads: Reads, start: AlphaSigma, end: AlphaSigma) -> AlphaSigma:
    """(l, n): n = -sqrt(l^2 - 1), the noise between both ends, or sigma_e - l sigma_s of DDIM."""
    ratio = end[0] / start[0]
    if reads == "ddim_eps":
        return ratio, end[1] - ratio * start[1]
    return ratio, -(ratio**2 - 1).sqrt()


def on_line(x: torch.Tensor, x_e: torch.Tensor, t: Any, e: Any, to: Any) -> torch.Tensor:
    """From x at t along the line that is at x_e at time e, to a time `to`."""
    moved: torch.Tensor = (to - t) * (x_e - x) / (e - t)
    return x + moved


def window_end(
    x_t: torch.Tensor, eps: torch.Tensor, t: Any, s: Any, e: Any, ratio: Any, n: Any
) -> torch.Tensor:
    """x_e = [l (e - s) x_t + n (e - t) eps] / [l (t - s) + (e - t)], x_t on the line at t > e."""
    end: torch.Tensor = ratio * (e - s) * x_t + n * (e - t) * eps
    end = end / (ratio * (t - s) + (e - t))
    return end


def straight(
    process: NoiseProcess, t: torch.Tensor, like: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """alpha + sigma and s = sigma / (alpha + sigma) at times t, (B, 1, .., 1).

    In y = x / (alpha + sigma) and s every process is a flow, y = (1 - s) x0 + s eps, and a DDIM
    step is y_r = y_t - (s_t - s_r) (eps - x0).
    """
    alpha, sigma = process.alpha_sigma(t, like)
    return alpha + sigma, sigma / (alpha + sigma)
