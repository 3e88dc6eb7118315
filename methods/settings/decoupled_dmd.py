"""Settings of decoupled distribution matching."""

from __future__ import annotations

from typing import Literal

from .dmd2 import DMD2Config

__all__ = ["DecoupledDMDConfig", "Law"]

Law = Literal["all", "below"]


class DecoupledDMDConfig(DMD2Config):
    """DMD2's settings, and the laws of both re-noising times.

    Attributes:
        matching_times: of the matching's time: "all" of 2 to 98 %, the paper's choice, or those
            "below" the student's node, less noisy than its input.
        guidance_times: of guidance's; "below" is the paper's choice (its tau > t, where 0 is pure
            noise), as guidance at noisier times redraws what the student's input has settled.
        same_draw: guidance at the very time and noise of the matching where both laws are equal;
            so it is DMD2.
    """

    matching_times: Law = "all"
    guidance_times: Law = "below"
    same_draw: bool = False
