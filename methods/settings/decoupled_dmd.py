"""Settings of decoupled distribution matching."""

from __future__ import annotations

from typing import Literal

from .dmd2 import DMD2Config

__all__ = ["DecoupledDMDConfig", "Law"]

Law = Literal["all", "above"]


class DecoupledDMDConfig(DMD2Config):
    """DMD2's settings, and the laws of both re-noising times.

    Attributes:
        matching_times: of the matching's time: "all" of 2 to 98 %, or those "above" the student's
            node.
        guidance_times: of guidance's; "above" is the paper's choice, as guidance below the node
            would redraw what the student's input has settled.
        same_draw: guidance at the very time and noise of the matching where both laws are equal;
            so it is DMD2.
    """

    matching_times: Law = "all"
    guidance_times: Law = "above"
    same_draw: bool = False
