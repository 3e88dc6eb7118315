"""The teacher itself, sampled with its guidance: baseline rows and reference sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distillbench.api.method import Batch, Losses, Method, NetSpec
from distillbench.errors import NotSupported

from .settings.denoiser import OdeConfig

if TYPE_CHECKING:
    from distillbench.api.samplers import OdeSampler

__all__ = ["Teacher"]


class Teacher(Method):
    """No nets and no training; DDIM (arXiv 2010.02502) or DPM-Solver++ (arXiv 2211.01095)."""

    Config = OdeConfig
    title = "Teacher"

    def nets(self) -> dict[str, NetSpec]:
        """None: the frozen backbone is what is sampled."""
        return {}

    def sampler(self, nfe: int) -> OdeSampler:
        """The solver at the family's own times."""
        return self.config.sampler(self.backbone, nfe)  # type: ignore[no-any-return]

    def loss(self, turn: str, batch: Batch, step: int) -> Losses:
        """Never asked for by the loop.

        Raises:
            NotSupported: always.
        """
        raise NotSupported("the teacher is not trained")
