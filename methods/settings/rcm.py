"""Settings of rCM."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from .consistency import LCMConfig
from .nets import RolesConfig

__all__ = ["RCMConfig"]

Weight = Annotated[float, Field(ge=0)]


class RCMConfig(RolesConfig, LCMConfig):
    """LCM's settings, and those of the distribution matching beside it.

    Attributes:
        w_consistency: weight of LCM's loss; 0 leaves the matching alone, which is one-step DMD2's.
        w_dmd: weight of the matching; 0 trains no fake score and is LCM. Its gradient is normalised
            to about 1, the consistency loss's is that of neighbours' small distance.
        noise_shift: s of the matching's times, whose share u of the range is s u / (1 + (s - 1) u):
            above 1, more of them are noisy (5 as released, of a flow's times); 1 is DMD2's law.
        rollout: the matching is of the student's sample after 1 to this many steps, one after the
            other over the updates (4 as released); their times are of the matching's law and fall.
        fake_lr: of the fake score, which starts as the teacher and is never guided.
        fake_updates: of the fake score for one of the student (4 as released on the 1.3B model).
    """

    w_consistency: Weight = 1.0
    w_dmd: Weight = 0.01
    noise_shift: PositiveFloat = 5.0
    rollout: PositiveInt = 1
    fake_lr: PositiveFloat = 1e-4
    fake_updates: PositiveInt = 1

    @model_validator(mode="after")
    def _trains_something(self) -> Self:
        if not self.w_consistency and not self.w_dmd:
            raise ValueError("w_consistency and w_dmd both 0 train nothing")
        return self
