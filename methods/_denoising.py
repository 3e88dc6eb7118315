"""Noising clean samples to random times and learning to undo it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from distillbench.core.grid import uniform_int
from distillbench.core.lazy import torch
from distillbench.core.loss import squared_error
from distillbench.core.parameterization import raw_output

if TYPE_CHECKING:
    from distillbench.backbones.base import Backbone, Cond
    from distillbench.train.method import Batch
    from distillbench.train.nets import NetHandle

__all__ = ["any_time", "denoising_loss", "time_between"]


def time_between(
    backbone: Backbone, batch: Batch, stream: str, low: int, high: int
) -> torch.Tensor:
    """(B,) times uniform on [low, high): integers, or real times of flow models."""
    u = batch.rand(stream, "time")
    if backbone.process.kind == "flow":
        return low + u * (high - low)
    return uniform_int(u, torch.full_like(u, low).long(), torch.full_like(u, high).long())


def any_time(backbone: Backbone, batch: Batch, stream: str) -> torch.Tensor:
    """(B,) times uniform on all of training's."""
    return time_between(backbone, batch, stream, 0, backbone.num_timesteps)


def denoising_loss(
    backbone: Backbone,
    net: NetHandle,
    x0: torch.Tensor,
    t: torch.Tensor,
    noise: torch.Tensor,
    cond: Cond,
    *,
    of: Literal["raw", "eps"] = "raw",
    **conditions: Any,
) -> torch.Tensor:
    """Squared error at x_t = alpha x0 + sigma noise, with x0 (B, ...) as data.

    "raw" compares what the network puts out with its own target (the noise, alpha eps - sigma x0,
    or eps - x0), which is how teachers are trained; "eps" compares the noise it reads from it.
    `conditions` are further arguments of `Backbone.predict`.
    """
    x0 = x0.detach()
    alpha, sigma = backbone.process.alpha_sigma(t, x0)
    pred = backbone.predict(net, alpha * x0 + sigma * noise, t, cond, **conditions)
    if of == "eps":
        return squared_error(pred.eps, noise)
    return squared_error(pred.raw, raw_output(x0, noise, alpha, sigma, backbone.prediction_type))
