"""Consistency along a trajectory: jumps that may end anywhere below u, not at the data alone.

What TCD (arXiv 2402.19159) and TSCD (Hyper-SD, arXiv 2404.13686) share. A jump to its own start is
the identity, so where the end is u the target is x_u and the target network is not asked.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from distillbench.core.grid import (
    grid_stride,
    grid_time,
    previous_time,
    segment_start,
    uniform_int,
)
from distillbench.core.solve import ddim
from distillbench.fields import SAMPLING

from ._consistency import Consistency, ConsistencyConfig, Pair

if TYPE_CHECKING:
    import torch

    from distillbench.train.method import Batch
    from distillbench.train.nets import NetHandle

__all__ = ["Trajectory", "TrajectoryConfig", "part"]


class TrajectoryConfig(ConsistencyConfig):
    """Settings of trajectory consistency; the published distance is the mean squared error.

    Attributes:
        sample_guidance: scale that a student with embedded guidance is asked for.
    """

    distance: Literal["huber", "l2"] = "l2"
    sample_guidance: Annotated[float, SAMPLING] = Field(8.0, ge=1)


class Trajectory(Consistency):
    """Jumps f(x_t, t -> s) = alpha_s x0 + sigma_s eps, TCD's TCF(1)."""

    Config = TrajectoryConfig

    def segments(self, step: int) -> int:
        """Number of segments whose lower edges the jumps of this step may reach."""
        return 1

    def end_time(self, batch: Batch, pair: Pair, step: int) -> torch.Tensor:
        """s uniform on the grid from the lower edge of t's segment to u, both included."""
        config, process = self.config, self.backbone.process
        low = segment_start(pair.index, config.solver_steps, self.segments(step))
        index = uniform_int(batch.rand("end"), low, pair.index + 1)
        stride = grid_stride(config.solver_steps, process.num_timesteps)
        return previous_time(grid_time(index, stride), stride, process.final)

    def jump(
        self, net: NetHandle, x: torch.Tensor, t: torch.Tensor, end: torch.Tensor, batch: Batch,
        scale: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        """One DDIM step of the network from t to the end."""
        embed = scale if self.config.embeds else None
        pred = self.backbone.predict(net, x, t, batch.cond, embed_scale=embed)
        return ddim(pred.x0, pred.eps, *self.backbone.process.alpha_sigma(end, x))

    def target(self, net: NetHandle, pair: Pair, end: torch.Tensor, batch: Batch) -> torch.Tensor:
        """x_u where the jump ends at u; elsewhere the target network's jump, on those alone."""
        rows = (end < pair.u).nonzero()[:, 0]
        target = pair.x_u.clone()
        if len(rows):
            target[rows] = self.jump(
                net, pair.x_u[rows], pair.u[rows], end[rows], part(batch, rows), pair.scale[rows]
            )
        return target


def part(batch: Batch, rows: torch.Tensor) -> Batch:
    """The prompts and conditions of some rows, to evaluate networks on; draws nothing."""
    prompts = [batch.prompts[row] for row in rows.tolist()]
    return replace(batch, prompts=prompts, cond=batch.cond[rows], latents=None)
