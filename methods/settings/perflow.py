"""Settings of piecewise rectified flows."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

from .nets import NetConfig

__all__ = ["PeRFlowConfig"]


class PeRFlowConfig(NetConfig):
    """Settings of piecewise rectified flows (PeRFlow, arXiv 2405.07510).

    Published full fine-tuning: rate 8e-5 (SD v1.5) and 1e-4 (SDXL), batch 1,024, 4,000 updates.

    Attributes:
        windows: W, of equal length; 1 is InstaFlow's reflow (arXiv 2309.06380). Of diffusion, a
            divisor of its training times.
        solver_steps: K, the teacher's DDIM steps in each window (8 on SD v1.5, 10 on SDXL;
            InstaFlow takes 25 in its only one); in the one-step phase, the reflowed student's.
        teacher_guidance: scale, usual convention. The published weights for SD v1.5 were trained
            without (1) and are guided when sampled; this one's students are not.
        reads: what the network says of a window: "velocity" reads eps - x0, on paths straight in
            x / (alpha + sigma), starts as the teacher's DDIM steps and fits any teacher; "diff_eps"
            and "ddim_eps" read its noise, on paths straight in x and time, as the released code
            does (SD v1.5 and SDXL); they need diffusion with signal at its first time.
        start_share: share of samples at the very start of their window, where a student of W steps
            is asked; the published law is uniform (0), and a network's output hardly jumps at the
            one time at which a window ends and the next begins.
        one_step_share: share of the training, its last, in which the reflowed student is distilled
            into one step (InstaFlow); needs `windows: 1`.
        ema: decay of an averaged student that is sampled instead of the last one.
    """

    windows: PositiveInt = 4
    solver_steps: PositiveInt = 8
    teacher_guidance: float = Field(7.5, ge=1)
    reads: Literal["diff_eps", "ddim_eps", "velocity"] = "velocity"
    start_share: float = Field(0.0, ge=0, le=1)
    one_step_share: float = Field(0.0, ge=0, le=1)
    ema: float | None = Field(None, ge=0, lt=1)

    @model_validator(mode="after")
    def _one_window(self) -> Self:
        if self.one_step_share and self.windows > 1:
            raise ValueError(
                f"one_step_share distils one window into one step: set windows to 1, not "
                f"{self.windows}"
            )
        return self
