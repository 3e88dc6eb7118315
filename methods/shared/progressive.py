"""Progressive distillation's pairs (arXiv 2202.00512): one step of the student, several before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from distillbench.core.lazy import torch
from distillbench.core.process import per_sample

from .scores import walked

if TYPE_CHECKING:
    from collections.abc import Callable

    from distillbench.api.backbone import Prediction
    from distillbench.api.method import Batch, Method
    from distillbench.core.process import NoiseProcess

    from ..settings.lightning import Round

__all__ = ["Pair", "walk", "x0_weight"]


@dataclass(frozen=True)
class Pair:
    """A state x_t at (B,) times t, and x_s at the student's next times s, without gradient."""

    x_t: torch.Tensor
    t: torch.Tensor
    x_s: torch.Tensor
    s: torch.Tensor


def walk(
    method: Method,
    stage: Round,
    predict: Callable[[torch.Tensor, torch.Tensor], Prediction],
    batch: Batch,
) -> Pair:
    """x_t ~ q(x_t | x_0) at one of the student's times, and the teacher's m / n DDIM steps from it.

    At the first time x_t is pure noise, as in sampling.
    """
    assert batch.latents is not None, "this method needs real latents"
    process, noise = method.backbone.process, batch.randn("noise")
    times = (*method.backbone.solver_times(stage.teacher_steps), process.final)
    grid, ratio = torch.tensor(times, device=batch.device), stage.teacher_steps // stage.steps
    start = ratio * batch.randint(0, stage.steps, "node")
    x_t = process.add_noise(batch.latents, noise, grid[start])
    x_t = torch.where(per_sample(start == 0, x_t) > 0, noise.to(x_t.dtype), x_t)
    x_s = walked(method, predict, x_t, [grid[start + i] for i in range(ratio + 1)])
    return Pair(x_t, grid[start], x_s, grid[start + ratio])


def x0_weight(process: NoiseProcess, at: Pair) -> torch.Tensor:
    """What makes the error of x_s that of the x0 behind it, times max(SNR_t, 1), (B, 1, .., 1).

    x_s = (sigma_s / sigma_t) x_t + (alpha_s - sigma_s alpha_t / sigma_t) x0.
    """
    (alpha, sigma), (alpha_s, sigma_s) = (process.alpha_sigma(v, at.x_t) for v in (at.t, at.s))
    return ((alpha / sigma) ** 2).clamp(min=1) / (alpha_s - sigma_s / sigma * alpha) ** 2
