"""Sampling a full denoiser, the teacher or a fine-tuned one, through the probability-flow ODE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from distillbench.fields import SAMPLING
from distillbench.sample.solvers import OdeSampler

if TYPE_CHECKING:
    from distillbench.backbones.base import Backbone

__all__ = ["OdeConfig", "ode_sampler"]


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


def ode_sampler(config: OdeConfig, backbone: Backbone, nfe: int) -> OdeSampler:
    """The solver at the family's own times, as published baselines are sampled."""
    return OdeSampler(
        timesteps=backbone.solver_times(nfe),
        solver=config.solver,
        guidance_scale=config.guidance_scale,
    )
