"""A trial of a stock scheduler: its steps beside our own, on a made-up network and equal noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from distillbench.api.backbone import Prediction
from distillbench.api.sampler import Sampler
from distillbench.core.parameterization import raw_output, x0_eps
from distillbench.core.process import NoiseProcess

__all__ = ["TrialTeacher", "distance"]

_Network = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class TrialTeacher:
    """What a scheduler must know of the model.

    Attributes:
        process: its noise process.
        prediction_type: what its network puts out.
        config: its own scheduler's settings, of which the numbers of the process are taken.
    """

    process: NoiseProcess
    prediction_type: str
    config: Mapping[str, Any]

    @property
    def family(self) -> str:
        """The scheduler class of a family that has a schedule of its own, else ""."""
        return "CogVideoXDDIMScheduler" if "snr_shift_scale" in self.config else ""


def distance(
    scheduler: Any, times: Mapping[str, Any], sampler: Sampler, teacher: TrialTeacher
) -> float:
    """How far from our end a scheduler's steps end, as a share of our largest value.

    Args:
        times: how the scheduler is told the times, as in a pipeline's call.
    """
    start = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    network = _network(teacher)
    ours = _ours(sampler, teacher, network, start)
    theirs = _theirs(scheduler, times, sampler, network, start)
    away = float((theirs - ours).abs().max() / ours.abs().max())
    return away if math.isfinite(away) else math.inf


def _network(teacher: TrialTeacher) -> _Network:
    """Predicts bounded data that change with x and t, in the teacher's parameterisation."""

    def raw(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = teacher.process.alpha_sigma(t, x)
        x0 = torch.tanh(0.7 * x + torch.cos(t.float() / 100).reshape(-1, 1, 1, 1))
        eps = (x - alpha * x0) / sigma.clamp(min=1e-4)
        return raw_output(x0, eps, alpha, sigma, teacher.prediction_type)

    return raw


def _ours(sampler: Sampler, teacher: TrialTeacher, network: _Network, x: Tensor) -> Tensor:
    rng = torch.Generator().manual_seed(2)

    def denoise(x_t: Tensor, t: Tensor, *, end_t: Tensor | None = None) -> Prediction:
        raw = network(x_t, t)
        at_t = teacher.process.alpha_sigma(t, x_t)
        return Prediction(*x0_eps(raw, x_t, *at_t, teacher.prediction_type), raw)

    return sampler.sample(
        denoise, x, teacher.process, lambda _: torch.randn(x.shape, generator=rng)
    )


def _theirs(
    scheduler: Any, times: Mapping[str, Any], sampler: Sampler, network: _Network, x: Tensor
) -> Tensor:
    """The loop of a pipeline."""
    scheduler.set_timesteps(**times)
    extra = {"generator": torch.Generator().manual_seed(2), "eta": getattr(sampler, "gamma", 0.0)}
    extra = {k: v for k, v in extra.items() if k in signature(scheduler.step).parameters}
    x = x * getattr(scheduler, "init_noise_sigma", 1.0)
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        x = scheduler.step(network(scaled, t.expand(len(x))), t, x, return_dict=False, **extra)[0]
    return x
