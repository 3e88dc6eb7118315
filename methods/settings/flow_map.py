"""Settings of flow maps."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from .nets import NetConfig

__all__ = ["FlowMapConfig"]

Share = Annotated[float, Field(ge=0, le=1)]


class FlowMapConfig(NetConfig):
    """Settings of flow maps (MeanFlow, arXiv 2505.13447).

    Attributes:
        velocity: what the average is of: the "teacher"'s, guided, or the "data"'s own, eps - x0.
        teacher_guidance: scale, usual convention; of the teacher's velocity alone.
        instant_share: share of samples whose jump has no length (r = t); they learn the velocity.
        end_share: share whose jump goes to the end; the rest ends anywhere below t.
        derivative: of the average velocity along the path: a central "difference", for any network,
            or by forward mode, "jvp", as the paper has it, where the backbone's kernels offer it.
        difference_times: d, half the span of the central difference, in training times.
        adaptive_power, adaptive_c: p and c of the weight 1 / (squared error + c)^p of each sample;
            p = 0 is the plain squared error.
        ema: decay of an averaged student that is sampled instead of the last one.
    """

    velocity: Literal["teacher", "data"] = "teacher"
    teacher_guidance: float = Field(3.0, ge=1)
    instant_share: Share = 0.5
    end_share: Share = 0.1
    derivative: Literal["difference", "jvp"] = "difference"
    difference_times: PositiveInt = 5
    adaptive_power: float = Field(1.0, ge=0)
    adaptive_c: PositiveFloat = 1e-3
    ema: float | None = Field(None, ge=0, lt=1)

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        if self.instant_share + self.end_share > 1:
            raise ValueError("instant_share and end_share add up to more than 1")
        if self.velocity == "data" and self.teacher_guidance != 1:
            raise ValueError("velocity data has no guidance: set teacher_guidance to 1")
        return self
