"""Settings of adversarial distillation in latents, or on a user's extractor."""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from .nets import NetConfig

__all__ = ["LADDConfig"]

_EXTRACTOR = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


class LADDConfig(NetConfig):
    """Settings of adversarial distillation (LADD, arXiv 2403.12015; ADD, arXiv 2311.17042).

    ADD is an `extractor`, `data: latents`, `w_distillation: 2.5` and `r1: 1e-5`. Guidance, rates
    and the teacher's steps are our choice.

    Attributes:
        steps: K, the input times of the student.
        data: what the student's samples are told from: "teacher" samples (LADD), made afresh, or
            real "latents" (ADD).
        student_input: that "data", noised (published), or the student's own steps before, noised as
            in sampling: "simulation" (DMD2's), so that errors of one step are seen by the next.
        teacher_guidance: scale of those samples and of the distillation, usual convention.
        solver_steps: of DPM-Solver++ for those samples.
        loss: "hinge" (ADD), or "softplus", the non-saturating one.
        layers: of the teacher whose activations the heads read; "mid" is every family's.
        heads: one set "shared" by the samples of all input times (published, as far as described),
            or one for "each". Shared ones see the mixture over input times alone, and a student
            may be wrong at every one of them while the mixture is right.
        noise_mean, noise_std: of the logit-normal law of the times at which features are read, as
            shares of all training's; LADD has 1 and 1, which is mostly noise.
        disc_updates: of the heads for one of the student.
        disc_lr, disc_betas: of the heads' AdamW; None takes the student's.
        r1: weight of the squared gradient of the heads at real features.
        w_distillation: weight of alpha_s | x - f_phi |^2 at the student's own noised samples.
        extractor: "package.module:function" in place of the teacher's features. Called once with
            the loaded backbone, it returns a function of latents (B, ...), differentiable, to a
            list of features, (B, C) or (B, C, h, w). Keys know its name alone: give it another
            when it changes.
        ema: decay of an averaged student that is sampled instead of the last one.
    """

    steps: PositiveInt = 4
    data: Literal["teacher", "latents"] = "teacher"
    student_input: Literal["data", "simulation"] = "data"
    teacher_guidance: float = Field(5.0, ge=1)
    solver_steps: PositiveInt = 16
    loss: Literal["hinge", "softplus"] = "hinge"
    layers: tuple[str, ...] = ("mid",)
    heads: Literal["shared", "each"] = "shared"
    noise_mean: float = 1.0
    noise_std: PositiveFloat = 1.0
    disc_updates: PositiveInt = 1
    disc_lr: PositiveFloat | None = None
    disc_betas: tuple[float, float] | None = None
    r1: float = Field(0.0, ge=0)
    w_distillation: float = Field(0.0, ge=0)
    extractor: str = ""
    ema: float | None = Field(None, ge=0, lt=1)

    @field_validator("extractor")
    @classmethod
    def _names_a_function(cls, given: str) -> str:
        if given and not _EXTRACTOR.fullmatch(given):
            raise ValueError(f"extractor {given!r} is not of the form package.module:function")
        return given

    @model_validator(mode="after")
    def _reads_something(self) -> Self:
        if not self.layers and not self.extractor:
            raise ValueError("layers must name at least one")
        return self
