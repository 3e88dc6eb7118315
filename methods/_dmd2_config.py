"""DMD2's settings, with those that make it DMD."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from ._discriminator import GanConfig
from ._nets import NetConfig
from ._regression import RegressionConfig

__all__ = ["DMD2Config"]


class DMD2Config(NetConfig, GanConfig, RegressionConfig):
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
        guidance_scale: of the teacher, usual convention: 1.75 on SD v1.5, 8 on SDXL; the fake score
            is never guided.
        fake_updates: R, updates of the fake score for one of the student (10 on SD v1.5, 5 on
            SDXL, 1 in DMD). A step of training is one update of the student.
        fake_lr: of the fake score and the discriminator's head.
        student_input: "backward_simulation", the student's own re-noised samples, or "data", noised
            real latents, which the student never meets in sampling.
        ema: decay of an averaged student that is sampled instead of the last one.
    """

    clip_norm: PositiveFloat | None = 10.0
    steps: PositiveInt = 4
    guidance_scale: float = Field(1.75, ge=1)
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
