"""Losses of a student and of its fake score that methods share."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from distillbench.api.method import Losses
from distillbench.api.samplers import OdeSampler
from distillbench.core.grid import uniform_int
from distillbench.core.lazy import torch
from distillbench.core.loss import (
    abs_mean_normalizer,
    gradient_surrogate,
    sample_mean,
    squared_error,
)
from distillbench.core.matching import renoised
from distillbench.core.process import CLEAN
from distillbench.core.solve import ddim
from distillbench.errors import NotSupported

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from distillbench.api.backbone import Backbone, Prediction
    from distillbench.api.method import Batch, Method

__all__ = [
    "any_time", "denoising_loss", "dmd_losses", "matched",
    "matching_point", "matching_time", "mean_losses", "noised", "require_trained",
    "teacher_samples", "time_between", "velocity", "walked",
]  # fmt: skip


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


def noised(
    method: Method, x0: torch.Tensor, batch: Batch, stream: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """(x_t, t): x0 at times of all training's, with fresh noise."""
    t = any_time(method.backbone, batch, stream)
    return method.backbone.process.add_noise(x0, batch.randn(stream, "noise"), t), t


def denoising_loss(
    method: Method, role: str, x0: torch.Tensor, batch: Batch, stream: str
) -> torch.Tensor:
    """| eps(x_t, t) - noise |^2 at x_t = alpha x0 + sigma noise, all times alike; x0 is data."""
    x_t, t = noised(method, x0.detach(), batch, stream)
    return squared_error(method.predict(role, x_t, t, batch).eps, batch.randn(stream, "noise"))


def dmd_losses(
    method: Method,
    pred: Prediction,
    batch: Batch,
    stream: str,
    scale: float | torch.Tensor,
    *,
    shift: float = 1.0,
) -> Losses:
    """DMD's surrogate, whose gradient at x0 is (f_psi - f_phi)(x_t, t) / mean |x0 - f_phi| / numel.

    f_phi: the teacher guided by `scale`; f_psi: the fake score; t of 2 % to 98 % (DMD,
    arXiv 2311.18828, eqs. 7 and 8), noisier ones oftener with `shift` above 1.
    Logged: the mean |f_phi - f_psi|.
    """
    x_t, t = matching_point(method, pred, batch, stream, shift=shift)
    with torch.no_grad():
        f_phi = method.teacher(x_t, t, batch, scale).x0
        f_psi = method.predict("fake", x_t, t, batch).x0
    return matched(pred.x0, f_phi, f_psi)


def matching_point(
    method: Method,
    pred: Prediction,
    batch: Batch,
    stream: str,
    below: torch.Tensor | None = None,
    *,
    shift: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(x_t, t) where scores are compared: x0 noised afresh to 2 % to 98 % of the times (DMD).

    Carries x0's gradient. `below` (B,): only times of that range below these. `shift` s: at share
    s u / (1 + (s - 1) u) of the range where a uniform time is at u.
    """
    backbone = method.backbone
    t = matching_time(backbone, batch, stream, below, shift=shift)
    clean = torch.full((len(batch),), CLEAN, device=batch.device)
    noise = batch.randn(stream, "noise")
    at = renoised(backbone.process, pred.x0, pred.eps, clean, t, noise, detach=False)
    return at.x_tau, t


def matching_time(
    backbone: Backbone,
    batch: Batch,
    stream: str,
    below: torch.Tensor | None = None,
    *,
    shift: float = 1.0,
) -> torch.Tensor:
    """(B,) times of `matching_point`'s law."""
    low = backbone.num_timesteps // 50
    high = backbone.num_timesteps - low + 1
    t = time_between(backbone, batch, stream, low, high)
    if below is None and shift == 1:
        return t
    u = (t - low) / (high - low)
    share = shift * u / (1 + (shift - 1) * u)
    end = high if below is None else below.clamp(low + 1, high)
    return (low + share * (end - low)).to(t.dtype)


def matched(x0: torch.Tensor, f_phi: torch.Tensor, f_psi: torch.Tensor) -> Losses:
    """DMD's surrogate of two clean predictions without gradient, and their mean distance."""
    loss = gradient_surrogate(x0, (f_psi - f_phi) / abs_mean_normalizer(x0, f_phi))
    return Losses(loss, {"gap": sample_mean((f_phi - f_psi).abs()).mean()})


def mean_losses(losses: Sequence[Losses]) -> Losses:
    """The mean of losses that log the same scalars; of one, the very same."""
    if len(losses) == 1:
        return losses[0]
    scalars = {
        name: torch.stack([each.scalars[name] for each in losses]).mean()
        for name in losses[0].scalars
    }
    return Losses(torch.stack([each.total for each in losses]).mean(), scalars)


def teacher_samples(
    backbone: Backbone,
    batch: Batch,
    noise: torch.Tensor,
    *,
    steps: int,
    guidance_scale: float | torch.Tensor,
) -> torch.Tensor:
    """y (B, ...), where the guided teacher's ODE takes `noise` from the first time; no gradient.

    DPM-Solver++(2M) (arXiv 2211.01095) at the teacher's own times.
    """

    def denoise(
        x_t: torch.Tensor, t: torch.Tensor, *, end_t: torch.Tensor | None = None
    ) -> Prediction:
        return backbone.predict(
            None, x_t, t, batch.cond, guidance_scale=guidance_scale, uncond=batch.uncond
        )

    sampler = OdeSampler(timesteps=backbone.solver_times(steps), solver="dpmsolver++")
    with torch.no_grad():
        return sampler.sample(denoise, noise, backbone.process, lambda _: noise)


def walked(
    method: Method,
    predict: Callable[[torch.Tensor, torch.Tensor], Prediction],
    x: torch.Tensor,
    times: Sequence[torch.Tensor],
) -> torch.Tensor:
    """Where DDIM steps through `times`, (B,) each, take x from the first; no gradient."""
    with torch.no_grad():
        for t, to in pairwise(times):
            pred = predict(x, t)
            x = ddim(pred.x0, pred.eps, *method.backbone.process.alpha_sigma(to, x))
    return x


def velocity(pred: Prediction) -> torch.Tensor:
    """eps - x0."""
    return pred.eps - pred.x0


def require_trained(
    method: Method, nodes: Sequence[int], trained: Sequence[int], nfe: int
) -> tuple[int, ...]:
    """`nodes`, all of which were trained.

    Raises:
        NotSupported: one of them was not.
    """
    if not set(nodes) <= set(trained):
        raise NotSupported(
            f"{method.name} trained with steps={method.config.steps} cannot be sampled with {nfe} "
            f"evaluations: times {nodes} were not trained"
        )
    return tuple(nodes)
