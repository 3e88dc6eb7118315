"""Settings of progressive distillation, with an adversary or without."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from .nets import NetConfig

__all__ = ["LightningConfig", "Round"]


@dataclass(frozen=True)
class Round:
    """A student of n `steps` learns from a teacher of m steps, the original one or its forerunner.

    Attributes:
        first: the update that it begins with.
        original: whether the original teacher teaches.
        adversarial: whether there is an adversary.
        relaxed: whether the adversary sees where the jump ends alone.
    """

    steps: int
    teacher_steps: int
    first: int
    original: bool
    adversarial: bool
    relaxed: bool


class LightningConfig(NetConfig):
    """Settings of progressive distillation (arXiv 2202.00512; SDXL-Lightning, arXiv 2402.13929).

    Without an adversary, the default, it is progressive distillation. SDXL-Lightning is `w_adv: 1`,
    `w_mse: 0` and stages (32, 8, 4, 2, 1) of 128 steps at guidance 6, each from the weights of the
    last; it trains its discriminator's encoder, ours is the frozen teacher. The adversary's
    gradient is scaled to the error's length, so that both weights are on one scale.

    Attributes:
        teacher_steps: m of the first stage, DDIM steps of the original teacher.
        stages: the student's steps n, falling, each a divisor of those before.
        stage_updates: share of the training's updates that each stage takes, as their numbers or in
            any other unit; None shares them equally.
        teacher_guidance: scale in the first stage, usual convention; the rest learn it from there.
        weight: of the squared error: "snr", max(SNR, 1) of x0 (2202.00512), or "jump", the error of
            where the jump ends, as SDXL-Lightning has it.
        w_mse, w_adv: weights of error and adversary in all stages but the first, which has no
            adversary.
        relax_share: share of each adversarial stage, its last, whose discriminator does not see
            where the jump starts, so that the student may leave the teacher's trajectory.
        disc_lr: of the discriminator's head.
        ema: decay of an averaged student, that is sampled and teaches instead of the last one.
    """

    teacher_steps: PositiveInt = 128
    stages: tuple[PositiveInt, ...] = (32, 8, 4)
    stage_updates: tuple[PositiveInt, ...] | None = None
    teacher_guidance: float = Field(6.0, ge=1)
    weight: Literal["snr", "jump"] = "snr"
    w_mse: float = Field(1.0, ge=0)
    w_adv: float = Field(0.0, ge=0)
    relax_share: float = Field(0.5, ge=0, le=1)
    disc_lr: PositiveFloat = 1e-4
    ema: float | None = Field(None, ge=0, lt=1)

    @model_validator(mode="after")
    def _stages_fit(self) -> Self:
        if not self.stages:
            raise ValueError("stages must name at least one number of steps")
        for more, less in pairwise((self.teacher_steps, *self.stages)):
            if more <= less or more % less:
                raise ValueError(f"stages: {less} steps must be fewer than {more} and divide them")
        if self.stage_updates is not None and len(self.stage_updates) != len(self.stages):
            raise ValueError(f"stage_updates must have one entry for each of {len(self.stages)}")
        if not self.w_mse and not self.w_adv:
            raise ValueError("w_mse and w_adv both 0 train nothing")
        return self

    @property
    def adversarial(self) -> bool:
        """Whether any stage has a discriminator."""
        return self.w_adv > 0 and len(self.stages) > 1

    def stage(self, step: int, total_steps: int) -> Round:
        """The stage of a step in a training of `total_steps`; of 0, the first."""
        shares = self.stage_updates or (1,) * len(self.stages)
        ends = [total_steps * part // sum(shares) for part in accumulate(shares)]
        k = min(bisect_right(ends, step), len(ends) - 1) if total_steps else 0
        first, adversarial = ends[k - 1] if k else 0, self.w_adv > 0 and k > 0
        relaxed = step >= ends[k] - self.relax_share * (ends[k] - first)
        before = (self.teacher_steps, *self.stages)[k]
        return Round(self.stages[k], before, first, k == 0, adversarial, adversarial and relaxed)
