"""LCM: every point of a teacher trajectory is sent to the same clean sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from distillbench.core.schedules import lcm_grid
from distillbench.core.solve import consistency_function
from distillbench.errors import NotSupported
from distillbench.fields import SAMPLING
from distillbench.sample.solvers import RenoiseSampler

from ._consistency import Consistency, ConsistencyConfig

if TYPE_CHECKING:
    import torch

    from distillbench.train.method import Batch
    from distillbench.train.nets import NetHandle

__all__ = ["LCM", "LCMConfig"]


class LCMConfig(ConsistencyConfig):
    """LCM's settings; the defaults are LCM-LoRA (arXiv 2311.05556) with the paper's range.

    The paper writes guidance as w = g - 1 and draws w from [2, 14], i.e. g from 3 to 15 (the
    public training scripts: w in [5, 15] for SD, [3, 15] for SDXL; LCM-LoRA's authors: w = 7.5).
    Full fine-tuning: nets "copy", which embeds the guidance and averages the target; its published
    rates are 8e-6 (paper) and 1e-6 (scripts), the average's decay .999943 and .95.

    Attributes:
        sample_guidance: scale that a student with embedded guidance is asked for.
    """

    sample_guidance: Annotated[float, SAMPLING] = Field(8.0, ge=1)


class LCM(Consistency):
    """Latent consistency distillation (arXiv 2310.04378, alg. 1).

    f(x, t) = c_skip(t) x + c_out(t) x0(x, t): the identity at the data end, and x0 everywhere else
    on the grid.
    """

    Config = LCMConfig
    title = "LCM"
    paper = "LCM (arXiv 2310.04378)"

    def jump(
        self, net: NetHandle, x: torch.Tensor, t: torch.Tensor, end: torch.Tensor, batch: Batch,
        scale: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        """f(x, t), which always ends at the data."""
        embed = scale if self.config.embeds else None
        # At a clean end (time -1) c_out is 0 and the network's answer is not used.
        pred = self.backbone.predict(net, x, t.clamp(min=0), batch.cond, embed_scale=embed)
        return consistency_function(x, pred.x0, t)

    def sampler(self, nfe: int) -> RenoiseSampler:
        """Multistep consistency sampling (alg. 3): 999, 759, 499, 259 for 4 steps."""
        if nfe > self.config.solver_steps:
            raise NotSupported(f"{self.name} has no {nfe} times on its solver grid")
        times = lcm_grid(nfe, self.config.solver_steps, self.backbone.num_timesteps)
        scale = self.config.sample_guidance if self.config.embeds else None
        return RenoiseSampler(timesteps=times, boundary=True, embed_scale=scale)
