"""DMD2's settings, with those that make it DMD."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from distillbench.api.fields import renamed
from distillbench.errors import NotSupported

from .gan import GanConfig
from .nets import RolesConfig

if TYPE_CHECKING:
    from distillbench.api.backbone import Backbone

__all__ = ["DMD2Config", "RegressionConfig"]


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
        regression_updates: updates of the student in "pretrain", out of all of the training.
        regression_solver_steps: guided evaluations of the teacher for each pair, which is made
            afresh. 16 of DPM-Solver++ end as near to the ODE's end as 25 to 50 of DDIM in the
            exact world, and still are most of the cost of a step of "joint".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    input_time: PositiveInt | None = None
    regression: Literal["none", "pretrain", "joint"] = "none"
    regression_weight: PositiveFloat = 0.25
    regression_updates: Annotated[PositiveInt, renamed("regression_steps")] = 2000
    regression_solver_steps: PositiveInt = 16


class DMD2Config(RolesConfig, GanConfig, RegressionConfig):
    """DMD2's settings, with those of its GAN and of one-step students.

    The GAN is off until `adversarial_weight` is given, as its weight depends on the latents' size
    and it needs real ones; the paper's DMD2 has it, in its last stage.

    Published full fine-tuning: all rates 1e-5, then 5e-7 with the GAN (SD v1.5), or 5e-7 (SDXL);
    5e-5 for a student that is an adapter. Its one-step SDXL recipe is `steps: 1`, `input_time: 399`
    and `regression: pretrain`, published at 1e-5 before 5e-7: for a rate of its own let it fill a
    training that another starts from. DMD's own (arXiv 2311.18828) is `steps: 1`,
    `regression: joint` and `fake_updates: 1`.

    Attributes:
        steps: K, the input times of the student.
        teacher_guidance: scale, usual convention: 1.75 on SD v1.5, 8 on SDXL; the fake score is
            never guided.
        fake_updates: R, updates of the fake score for one of the student (10 on SD v1.5, 5 on
            SDXL, 1 in DMD). A step of training is one update of the student.
        fake_lr: of the fake score.
        student_input: "backward_simulation", the student's own re-noised samples, or "data", noised
            real latents, which the student never meets in sampling.
        ema: decay of an averaged student that is sampled instead of the last one.
    """

    clip_norm: PositiveFloat | None = 10.0
    steps: PositiveInt = 4
    teacher_guidance: Annotated[float, renamed("guidance_scale")] = Field(1.75, ge=1)
    fake_updates: PositiveInt = 5
    fake_lr: PositiveFloat = 1e-4
    student_input: Literal["backward_simulation", "data"] = "backward_simulation"
    ema: float | None = Field(None, ge=0, lt=1)

    @model_validator(mode="after")
    def _one_step_only(self) -> Self:
        for key, plain in (("regression", "none"), ("input_time", None)):
            if self.steps > 1 and getattr(self, key) != plain:
                raise ValueError(f"{key} is for one-step students: set steps to 1")
        return self

    def pretrains(self, step: int) -> bool:
        """Whether the student alone is trained in this step, by regression."""
        return self.regression == "pretrain" and step < self.regression_updates

    def nodes(self, backbone: Backbone) -> tuple[int, ...]:
        """Input times of the student, first to last."""
        if self.input_time is None:
            return backbone.nodes(self.steps)
        if self.input_time >= (total := backbone.num_timesteps):
            raise NotSupported(
                f"input_time {self.input_time} is not below the {total} training times"
            )
        return (self.input_time,)
