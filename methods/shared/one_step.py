"""Hyper-SD's one-step enhancement (arXiv 2404.13686, section 3.3): DMD and a regression.

The student predicts a clean x from pure noise z at the first time T*. Distribution matching (DMD,
arXiv 2311.18828) moves x along real minus fake score, and a squared error holds it to where the
teacher's ODE takes z. The paper's feedback learning needs reward models and is not offered.

Roles are student and fake. Nets that embed the guidance are told it by the method's `conditions`,
the fake score too, as the student's samples depend on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from distillbench.api.method import Losses
from distillbench.core.lazy import torch
from distillbench.core.loss import squared_error

from .scores import denoising_loss, dmd_losses, teacher_samples

if TYPE_CHECKING:
    from distillbench.api.backbone import Prediction
    from distillbench.api.method import Batch, Method

    from ..settings.tscd import TSCDConfig

__all__ = ["fake_losses", "one_step_scale", "student_losses"]


def student_losses(method: Method, batch: Batch) -> Losses:
    """w_dmd times the matching's surrogate plus w_one_step_mse times the regression."""
    config: TSCDConfig = method.config
    target = _ode_end(method, batch) if config.w_one_step_mse else None
    pred = _predict(method, batch)
    batch.once("one step", pred.x0.detach)
    terms, scalars = list[torch.Tensor](), dict[str, torch.Tensor]()
    if target is not None:
        scalars["one_step_mse"] = squared_error(pred.x0, target)
        terms.append(config.w_one_step_mse * scalars["one_step_mse"])
    if config.matches:
        matching = dmd_losses(method, pred, batch, "one step student", _guidance(config, batch))
        scalars |= matching.scalars
        terms.append(config.w_dmd * matching.total)
    return Losses(torch.stack(terms).sum(), scalars)


def fake_losses(method: Method, batch: Batch) -> Losses:
    """Plain denoising of the student's samples at all times."""
    with torch.no_grad():
        x0 = batch.once("one step", lambda: _predict(method, batch).x0)
    return Losses(denoising_loss(method, "fake", x0, batch, "one step fake"))


def one_step_scale(config: TSCDConfig, batch: Batch) -> torch.Tensor:
    """(B,) the teacher's guidance scales, drawn from its range."""
    low, high = _range(config)
    return low + (high - low) * batch.rand("one step", "guidance")


def _predict(method: Method, batch: Batch) -> Prediction:
    """The student's prediction at (z, T*)."""
    z = batch.randn("one step", "start")
    t = torch.full((len(batch),), method.backbone.nodes(1)[0], device=batch.device)
    return method.predict("student", z, t, batch)


def _ode_end(method: Method, batch: Batch) -> torch.Tensor:
    config: TSCDConfig = method.config
    return teacher_samples(
        method.backbone, batch, batch.randn("one step", "start"),
        steps=config.one_step_solver_steps, guidance_scale=_guidance(config, batch),
    )  # fmt: skip


def _guidance(config: TSCDConfig, batch: Batch) -> float | torch.Tensor:
    return 1.0 if _range(config)[1] == 1 else one_step_scale(config, batch)


def _range(config: TSCDConfig) -> tuple[float, float]:
    fixed = config.one_step_teacher_guidance
    return config.teacher_guidance if fixed is None else (fixed, fixed)
