"""What consistency methods share: the teacher's solver step, the target network, the distance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from distillbench.api.method import Batch, Method, NetSpec
from distillbench.core.grid import SolverGrid, segment_start, uniform_int
from distillbench.core.lazy import torch
from distillbench.core.loss import pseudo_huber, squared_error
from distillbench.core.process import per_sample
from distillbench.core.schedules import lcm_times
from distillbench.core.solve import ddim

if TYPE_CHECKING:
    from pydantic import BaseModel

    from distillbench.api.backbone import Backbone
    from distillbench.api.nets import NetHandle

__all__ = ["Consistency", "Jump", "SolverStep", "offset_noise", "target_jump"]

Jump = Callable[..., "torch.Tensor"]
"""f(net, x, t, end, batch, scale): (B, ...), where a network sends x from time t to `end`."""


@dataclass(frozen=True)
class SolverStep:
    """Two points of one teacher trajectory: guided DDIM steps from t to u < t, most often one.

    Attributes:
        index: j of the grid's time u = g_j; t is g_{j+1} where there is one step.
        t, u: (B,) start and the teacher's end.
        x_t, x_u: the states there, without gradient.
        scale: (B,) guidance scale of the teacher.
    """

    index: torch.Tensor
    t: torch.Tensor
    u: torch.Tensor
    x_t: torch.Tensor
    x_u: torch.Tensor
    scale: torch.Tensor


class Consistency(Method):
    """Trains one student on real latents; a method of the family writes its own loss.

    Times are those of the backbone's solver grid: integers, or reals of a flow model. A step from t
    to u is x_u = alpha_u x0 + sigma_u eps for all of them, which is exact where the prediction
    (x0, eps) stays what it is along the trajectory; with alpha = 1 - sigma it is Euler's step
    x_t - (sigma_t - sigma_u) v of the guided velocity v = eps - x0.
    """

    needs = frozenset({"prompts", "latents"})

    def __init__(self, config: BaseModel, backbone: Backbone) -> None:
        """Refuses a grid that the backbone has not."""
        super().__init__(config, backbone)
        self.solver_times = backbone.solver_grid(self.config.solver_steps)

    @property
    def grid(self) -> SolverGrid:
        """The solver grid with the end of its trajectories, known once the backbone is loaded."""
        return SolverGrid((self.backbone.process.final, *self.solver_times))

    def sampling_times(self, steps: int) -> tuple[float, ...]:
        """`steps` times of the grid from the noisiest on, as LCM's and TCD's schedulers choose."""
        return lcm_times(steps, self.solver_times)

    def student_spec(self, *more: str) -> NetSpec:
        """The student, averaged where its average is the target; `more` are further conditions."""
        config = self.config
        conditions = (*(("guidance",) if config.embeds else ()), *more)
        ema = config.ema_decay if config.averages else None
        spec: NetSpec = config.role("student", ema=ema, conditions=conditions)
        return spec

    @property
    def target_net(self) -> NetHandle:
        """The averaged student, or the student itself."""
        student = self.net["student"]
        return student.ema or student

    def distance(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The configured distance, a scalar."""
        if self.config.distance == "l2":
            return squared_error(pred, target)
        return pseudo_huber(pred, target, self.config.huber_c)

    def solver_step(self, batch: Batch, noise: torch.Tensor, count: int = 1) -> SolverStep:
        """x_t from real latents and `noise`, and `count` DDIM steps of the guided teacher from it.

        Fewer where the grid ends before.
        """
        process, config = self.backbone.process, self.config
        assert batch.latents is not None, "this method needs real latents"
        index = batch.randint(0, config.solver_steps, "index")
        t, u = self.grid.step(index, batch.latents)
        low, high = config.teacher_guidance
        scale = low + (high - low) * batch.rand("guidance")
        x_t = process.add_noise(batch.latents, noise, t)
        x_u = self._solved(x_t, t, u, scale, batch)
        for _ in range(count - 1):
            lower = (index - 1).clamp(min=0)
            start, u = self.grid.step(lower, batch.latents)
            left = per_sample(index > 0, x_u) > 0
            x_u, index = torch.where(left, self._solved(x_u, start, u, scale, batch), x_u), lower
        return SolverStep(index, t, u, x_t, x_u, scale)

    def _solved(
        self, x: torch.Tensor, t: torch.Tensor, u: torch.Tensor, scale: torch.Tensor, batch: Batch
    ) -> torch.Tensor:
        """One guided DDIM step from t to u."""
        with torch.no_grad():
            plain = self.config.teacher_guidance[1] == 1
            pred = self.teacher(x, t, batch, 1.0 if plain else scale)
            return ddim(pred.x0, pred.eps, *self.backbone.process.alpha_sigma(u, x))

    def grid_end(
        self, s: SolverStep, batch: Batch, segments: int = 1, *, edge: bool = False
    ) -> torch.Tensor:
        """(B,) ends uniform on the grid from the lower edge of t's segment to u, both included.

        Or that `edge` itself.
        """
        low = segment_start(s.index, self.config.solver_steps, segments)
        high = low + 1 if edge else s.index + 1
        return self.grid.at(uniform_int(batch.rand("end"), low, high), s.x_t)

    def jumps(
        self, jump: Jump, s: SolverStep, end: torch.Tensor, batch: Batch
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """f(x_t, t -> end) of the student, and sg f(x_u, u -> end) of the target network."""
        with torch.no_grad():  # before the student's own forward: adapters are switched in place
            target = target_jump(jump, self.target_net, s, end, batch)
        return jump(self.net["student"], s.x_t, s.t, end, batch, s.scale), target


def target_jump(
    jump: Jump, net: NetHandle, s: SolverStep, end: torch.Tensor, batch: Batch
) -> torch.Tensor:
    """f(x_u, u -> end); a jump to its own start is the identity, so x_u where the end is u."""
    rows = (end < s.u).nonzero()[:, 0]
    target = s.x_u.clone()
    if batch.anywhere(len(rows) > 0):
        at = rows if len(rows) else rows.new_zeros(1)  # one that is called for others' sake
        made = jump(net, s.x_u[at], s.u[at], end[at], _part(batch, at), s.scale[at])
        target[rows] = made[: len(rows)]
    return target


def _part(batch: Batch, rows: torch.Tensor) -> Batch:
    """The prompts and conditions of some rows, to evaluate networks on; draws nothing."""
    prompts = [batch.prompts[row] for row in rows.tolist()]
    return replace(batch, prompts=prompts, cond=batch.cond[rows], latents=None)


def offset_noise(batch: Batch, strength: float, modality: str) -> torch.Tensor:
    """Noise with an offset that is constant over each channel of a sample."""
    noise = batch.randn("noise")
    if not strength:
        return noise
    channel = 2 if modality == "video" else 1
    shape = [size if i in (0, channel) else 1 for i, size in enumerate(noise.shape)]
    return noise + strength * torch.randn(shape, generator=batch.rng("offset")).to(noise.device)
