"""The teacher itself, sampled with its guidance: baseline rows and reference sets."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from distillbench.errors import NotSupported
from distillbench.sample.schedules import trailing
from distillbench.sample.solvers import OdeSampler
from distillbench.train.method import Batch, Losses, Method, NetSpec

__all__ = ["Teacher", "TeacherConfig"]


class TeacherConfig(BaseModel):
    """How the teacher is sampled.

    Attributes:
        solver: of the probability-flow ODE; "dpmsolver++" is the multistep one (2M), and
            "dpmsolver++2s" the single-step one (2S).
        guidance_scale: usual convention, 1 = none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    solver: Literal["ddim", "euler", "dpmsolver++", "dpmsolver++2s"] = "ddim"
    guidance_scale: float = Field(7.5, ge=1)


class Teacher(Method):
    """No nets and no training; DDIM (arXiv 2010.02502) or DPM-Solver++ (arXiv 2211.01095)."""

    Config = TeacherConfig
    title = "Teacher"

    def nets(self) -> dict[str, NetSpec]:
        """None: the frozen backbone is what is sampled."""
        return {}

    def sampler(self, nfe: int) -> OdeSampler:
        """The solver at the "trailing" times, as published baselines are sampled.

        Not at `Backbone.nodes`: a family may train few-step students at shifted times.
        """
        return OdeSampler(
            timesteps=trailing(nfe, self.backbone.num_timesteps),
            solver=self.config.solver,
            guidance_scale=self.config.guidance_scale,
        )

    def loss(self, turn: str, batch: Batch, step: int) -> Losses:
        """Never asked for by the loop.

        Raises:
            NotSupported: always.
        """
        raise NotSupported("the teacher is not trained")
