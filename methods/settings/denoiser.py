"""Settings of full denoisers, the teacher or a fine-tuned one, sampled through the ODE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from distillbench.api.fields import SAMPLING
from distillbench.api.samplers import OdeSampler

from .nets import NetConfig

if TYPE_CHECKING:
    from distillbench.api.backbone import Backbone

__all__ = ["OdeConfig", "SFTConfig"]


class OdeConfig(BaseModel):
    """How a denoiser is sampled.

    Attributes:
        solver: of the probability-flow ODE; "dpmsolver++" is the multistep one (2M), and
            "dpmsolver++2s" the single-step one (2S).
        guidance_scale: usual convention, 1 = none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    solver: Annotated[
        Literal["ddim", "euler", "dpmsolver++", "dpmsolver++2s"], SAMPLING
    ] = "ddim"  # fmt: skip
    guidance_scale: Annotated[float, SAMPLING] = Field(7.5, ge=1)

    def sampler(self, backbone: Backbone, nfe: int) -> OdeSampler:
        """The solver at the family's own times, as published baselines are sampled."""
        return OdeSampler(
            timesteps=backbone.solver_times(nfe),
            solver=self.solver,
            guidance_scale=self.guidance_scale,
        )


class SFTConfig(NetConfig, OdeConfig):
    """Settings of the training, and of sampling as the teacher's.

    Attributes:
        drop_prompt: share of samples trained without their prompt, so that guidance still works.
        ema: decay of an averaged student that is sampled instead of the last one.
    """

    drop_prompt: float = Field(0.1, ge=0, le=1)
    ema: float | None = Field(None, ge=0, lt=1)
