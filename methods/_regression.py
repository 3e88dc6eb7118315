"""Where the teacher's deterministic sampler ends, as a target for one-step students."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt

from distillbench.core.lazy import torch
from distillbench.sample.solvers import OdeSampler

if TYPE_CHECKING:
    from distillbench.backbones.base import Backbone, Prediction
    from distillbench.train.method import Batch

__all__ = ["RegressionConfig", "teacher_samples"]


class RegressionConfig(BaseModel):
    """Settings of one-step students.

    Attributes:
        input_time: time that the student is told, and whose alpha and sigma its sample is read
            with, though its input is pure noise; None is the last time of the schedule.
        regression: to the guided teacher's samples of the same noise: for the first steps alone
            ("pretrain", DMD2's one-step SDXL recipe), or beside the matching ("joint", DMD).
            Squared error of latents; the papers take LPIPS of decoded images, but there is no
            perceptual network for latents, and a decoder would have to run in every step.
        regression_weight: of "joint" (DMD: 0.25, of LPIPS).
        regression_steps: updates of the student in "pretrain", out of all of the training.
        regression_solver_steps: guided evaluations of the teacher for each pair, which is made
            afresh. 16 of DPM-Solver++ end as near to the ODE's end as 25 to 50 of DDIM in the
            exact world, and still are most of the cost of a step of "joint".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    input_time: PositiveInt | None = None
    regression: Literal["none", "pretrain", "joint"] = "none"
    regression_weight: PositiveFloat = 0.25
    regression_steps: PositiveInt = 2000
    regression_solver_steps: PositiveInt = 16


def teacher_samples(
    backbone: Backbone,
    batch: Batch,
    noise: torch.Tensor,
    *,
    steps: int,
    guidance_scale: float | torch.Tensor,
) -> torch.Tensor:
    """y (B, ...), the guided teacher's answer to `noise` at the first time, without gradient.

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
