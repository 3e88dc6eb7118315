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
            that TDM has, .5 lowers the distance of the projected scores alone. Released code: 1.2,
            or 1.
        fake_guidance: scale of the fake score, in its own loss and in the student's; 1 = none. Long
            and short guidance (arXiv 2406.01561) gives teacher and fake score the same, 1.5 or 2 on
            SD v1.5. 0 leaves the prompt out of the fake score (Zero-CFG, with a teacher without
            guidance), and less is Anti-CFG (both arXiv 2505.12674).
    """

    alpha: float = Field(1.0, ge=0)
    fake_guidance: float = 1.0
