"""What consistency methods share: one solver step of the teacher, then agreement of two jumps.

Draw a grid time t, move x_t one step of the guided teacher to u < t, and ask that the student's
jump from (x_t, t) equals the target network's jump from (x_u, u). Methods differ in where a jump
ends, how it is parameterised and what it is compared with: they override `end_time`, `jump` and
`target`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from distillbench.core.grid import grid_stride, grid_time, previous_time
from distillbench.core.lazy import torch
from distillbench.core.loss import pseudo_huber, squared_error
from distillbench.core.solve import ddim
from distillbench.errors import NotSupported
from distillbench.train.method import Batch, Losses, Method, NetSpec

from ._nets import NetConfig

if TYPE_CHECKING:
    from pydantic import BaseModel

    from distillbench.backbones.base import Backbone
    from distillbench.train.nets import NetHandle

__all__ = ["Consistency", "ConsistencyConfig", "Pair"]


class ConsistencyConfig(NetConfig):
    """Settings of the consistency family.

    Attributes:
        solver_steps: N, the teacher's DDIM grid; one solver step spans T / N times.
        guidance: range the teacher's guidance scale is drawn from, usual convention g = w + 1; two
            equal ends fix it.
        embed_guidance: feed the drawn scale to the student; None embeds it in full copies only, an
            adapter averages over the range.
        target: "ema" compares with an averaged student, "stopgrad" with the student itself; None
            takes "ema" for full copies. The averaged student is also the one that is sampled.
        ema_decay: of that average.
        distance: pseudo-Huber per element with `huber_c`, as LCM's scripts are run, or the mean
            squared error of its paper.
    """

    solver_steps: PositiveInt = 50
    guidance: tuple[float, float] = (3.0, 15.0)
    embed_guidance: bool | None = None
    target: Literal["ema", "stopgrad"] | None = None
    ema_decay: float = Field(0.95, gt=0, lt=1)
    distance: Literal["huber", "l2"] = "huber"
    huber_c: PositiveFloat = 1e-3

    @model_validator(mode="after")
    def _ordered(self) -> ConsistencyConfig:
        if not 1 <= self.guidance[0] <= self.guidance[1]:
            raise ValueError("guidance must be two rising scales of at least 1 (1 = none)")
        return self

    @property
    def embeds(self) -> bool:
        """Whether the student is told the guidance scale."""
        varies = self.guidance[0] < self.guidance[1]
        full = self.nets == "copy"
        return full and varies if self.embed_guidance is None else self.embed_guidance

    @property
    def averages(self) -> bool:
        """Whether an averaged student gives the targets."""
        return (self.target or ("ema" if self.nets == "copy" else "stopgrad")) == "ema"


@dataclass(frozen=True)
class Pair:
    """Two neighbouring points of one teacher trajectory.

    Attributes:
        index: grid index j of t.
        t, u: (B,) start and the teacher's end, u < t.
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
    """Base of the family; trains one role on real latents."""

    Config = ConsistencyConfig
    needs = frozenset({"prompts", "latents"})

    def __init__(self, config: BaseModel, backbone: Backbone) -> None:
        """Refuses flow-matching teachers, whose grid has no integer times."""
        super().__init__(config, backbone)
        if backbone.process_kind != "vp":
            raise NotSupported(f"{self.name} is implemented for variance-preserving teachers only")

    def nets(self) -> dict[str, NetSpec]:
        """One student, averaged where its average is the target."""
        config = self.config
        conditions = ("guidance",) if config.embeds else ()
        ema = config.ema_decay if config.averages else None
        return {"student": config.role(ema=ema, conditions=conditions)}

    # ---- what a method defines ------------------------------------------------------------

    def jump(
        self, net: NetHandle, x: torch.Tensor, t: torch.Tensor, end: torch.Tensor, batch: Batch,
        scale: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        """f(x_t, t -> end)."""
        raise NotImplementedError

    def end_time(self, batch: Batch, pair: Pair, step: int) -> torch.Tensor:
        """(B,) where the jumps end; the data end unless a method says otherwise."""
        return torch.full_like(pair.t, self.backbone.process.final)

    def target(self, net: NetHandle, pair: Pair, end: torch.Tensor, batch: Batch) -> torch.Tensor:
        """f(x_u, u -> end) of the target network; called without gradients."""
        return self.jump(net, pair.x_u, pair.u, end, batch, pair.scale)

    def noise(self, batch: Batch) -> torch.Tensor:
        """The noise that leads real latents to time t."""
        return batch.randn("noise")

    # ---- the algorithm --------------------------------------------------------------------

    def loss(self, turn: str, batch: Batch, step: int) -> Losses:
        """d( f(x_t, t -> end), sg f_target(x_u, u -> end) )."""
        pair = self.solver_step(batch)
        return Losses(self.distance(*self.both(pair, self.end_time(batch, pair, step), batch)))

    def both(
        self, pair: Pair, end: torch.Tensor, batch: Batch
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The student's jump and the target's."""
        student = self.net["student"]
        with torch.no_grad():  # before the student's own forward: adapters are switched in place
            target = self.target(student.ema or student, pair, end, batch)
        return self.jump(student, pair.x_t, pair.t, end, batch, pair.scale), target

    def distance(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The configured distance, a scalar."""
        if self.config.distance == "l2":
            return squared_error(pred, target)
        return pseudo_huber(pred, target, self.config.huber_c)

    def solver_step(self, batch: Batch) -> Pair:
        """x_t from real latents, and one DDIM step of the guided teacher from it."""
        backbone, process, config = self.backbone, self.backbone.process, self.config
        assert batch.latents is not None, "this method needs real latents"
        stride = grid_stride(config.solver_steps, process.num_timesteps)
        index = batch.randint(0, config.solver_steps, "index")
        t = grid_time(index, stride)
        u = previous_time(t, stride, process.final)
        low, high = config.guidance
        scale = low + (high - low) * batch.rand("guidance")
        x_t = process.add_noise(batch.latents, self.noise(batch), t)
        with torch.no_grad():
            teacher = backbone.predict(
                None, x_t, t, batch.cond,
                guidance_scale=1.0 if high == 1 else scale, uncond=batch.uncond,
            )  # fmt: skip
            x_u = ddim(teacher.x0, teacher.eps, *process.alpha_sigma(u, x_t))
        return Pair(index, t, u, x_t, x_u, scale)
