"""Settings of score identity distillation."""

from __future__ import annotations

from pydantic import Field

from .dmd2 import DMD2Config

__all__ = ["SiDConfig"]


class SiDConfig(DMD2Config):
    """SiD's settings, and DMD2's for what both share.

    Rates, ratio and number of steps are DMD2's here (our choice): on one teacher the two then
    differ in the student's loss alone.

    Attributes:
        alpha: weight of the squared distance of both scores that is taken off; 1 is the Fisher form
            that TDM has, .5 lowers the distance of the projected scores alone.
        fake_guidance: scale of the fake score, in its own loss and in the student's (long and short
            guidance, arXiv 2406.01561); 1 = none.
    """

    alpha: float = Field(1.0, ge=0)
    fake_guidance: float = Field(1.0, ge=1)
