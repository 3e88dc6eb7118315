"""Reading x0 and eps from what a network puts out, and classifier-free guidance.

The readings are linear in the output with weights that sum to one over guided branches, so guiding
the raw outputs, x0 or eps is the same thing.
"""

from __future__ import annotations

from distillbench.core.lazy import torch
from distillbench.core.process import per_sample

__all__ = ["guided", "raw_output", "x0_eps"]


def x0_eps(
    raw: torch.Tensor,
    x_t: torch.Tensor,
    alpha: torch.Tensor,
    sigma: torch.Tensor,
    prediction_type: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The clean sample and the noise that a network output stands for.

    Args:
        raw: network output at x_t, (B, ...).
        x_t: its input.
        alpha, sigma: of its time, broadcastable to x_t.
        prediction_type: epsilon | v_prediction (alpha eps - sigma x0) | sample | flow (eps - x0) |
            velocity (x0 - eps, as InstaFlow has it, arXiv 2309.06380).

    Raises:
        ValueError: unknown prediction type.
    """
    if prediction_type == "epsilon":
        return (x_t - sigma * raw) / alpha, raw
    if prediction_type == "v_prediction":
        return alpha * x_t - sigma * raw, alpha * raw + sigma * x_t
    if prediction_type == "sample":
        return raw, (x_t - alpha * raw) / sigma
    if prediction_type == "flow":
        return x_t - sigma * raw, x_t + alpha * raw
    if prediction_type == "velocity":
        return x_t + sigma * raw, x_t - alpha * raw
    raise ValueError(_unknown(prediction_type))


def raw_output(
    x0: torch.Tensor,
    eps: torch.Tensor,
    alpha: torch.Tensor,
    sigma: torch.Tensor,
    prediction_type: str,
) -> torch.Tensor:
    """The output a network of this type would give for (x0, eps); the inverse of `x0_eps`."""
    if prediction_type == "epsilon":
        return eps
    if prediction_type == "v_prediction":
        return alpha * eps - sigma * x0
    if prediction_type == "sample":
        return x0
    if prediction_type == "flow":
        return eps - x0
    if prediction_type == "velocity":
        return x0 - eps
    raise ValueError(_unknown(prediction_type))


def guided(cond: torch.Tensor, uncond: torch.Tensor, scale: float | torch.Tensor) -> torch.Tensor:
    """Classifier-free guidance (arXiv 2207.12598) in the usual scale, 1 = none.

    LCM, TCD and their relatives write cond + w (cond - uncond), which is scale = w + 1.
    """
    return uncond + per_sample(scale, cond) * (cond - uncond)


def _unknown(prediction_type: str) -> str:
    allowed = "epsilon, v_prediction, sample, flow, velocity"
    return f"prediction type {prediction_type!r} is not one of {allowed}"
