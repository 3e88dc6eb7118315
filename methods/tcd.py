"""TCD: any point of a teacher trajectory jumps to any later point of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from distillbench.core.grid import uniform_int
from distillbench.core.lazy import torch
from distillbench.core.schedules import lcm_grid
from distillbench.core.solve import ddim, second_order_jump
from distillbench.errors import NotSupported
from distillbench.fields import SAMPLING
from distillbench.sample.solvers import GammaSampler

from ._trajectory import Trajectory, TrajectoryConfig

if TYPE_CHECKING:
    from distillbench.backbones.base import Prediction
    from distillbench.train.method import Batch, NetSpec
    from distillbench.train.nets import NetHandle

    from ._consistency import Pair

__all__ = ["TCD", "TCDConfig"]


class TCDConfig(TrajectoryConfig):
    """TCD's settings (arXiv 2402.19159, section 5.1 and appendix C).

    The paper: AdamW at 4.5e-6 with weight decay 1e-2, w = g - 1 from [2, 14], 3000 steps of SDXL.
    Such a rate leaves an adapter where it is, so ours is higher. The authors released inference
    only, so "code" below means their scheduler.

    Attributes:
        tcf: the trajectory function: "1" first order (the paper's best, and ours), "2" second order
            (twice the evaluations), "S+" first order with a network that is told its end time.
        ends: draw s on the solver "grid" (students are sampled on it, and a network that is not
            told s has fewer ends to average over), or among all "integers" of [end, u] as in the
            paper. "S+" profits from the latter, since sampling asks for ends between grid times.
        gamma: share of stochasticity in sampling; 0.3 as in the released scheduler, the paper's
            text has 0.2. More steps want more of it.
    """

    tcf: Literal["1", "2", "S+"] = "1"
    ends: Literal["grid", "integers"] = "grid"
    gamma: Annotated[float, SAMPLING] = Field(0.3, ge=0, le=1)


class TCD(Trajectory):
    """Trajectory consistency distillation (arXiv 2402.19159, alg. 2).

    d(f(x_t, t -> s), sg f(x_u, u -> s)) with x_u one guided DDIM step from x_t and s drawn from
    [end, u], weight 1 at all times. A network that is not told s cannot fit all ends at once, so
    this loss does not go to zero; "S+" removes that floor.
    """

    Config = TCDConfig
    title = "TCD"
    paper = "TCD (arXiv 2402.19159)"

    def nets(self) -> dict[str, NetSpec]:
        """One student; S+ adds a zero-initialised end time, so that it starts as TCF(1)."""
        config = self.config
        names = {"guidance": config.embeds, "end_t": config.tcf == "S+"}
        conditions = tuple(name for name, wanted in names.items() if wanted)
        ema = config.ema_decay if config.averages else None
        return {"student": config.role(ema=ema, conditions=conditions)}

    def end_time(self, batch: Batch, pair: Pair, step: int) -> torch.Tensor:
        """s, both ends of its range included."""
        if self.config.ends == "grid":
            return super().end_time(batch, pair, step)
        low = torch.full_like(pair.u, self.backbone.process.final)
        return uniform_int(batch.rand("end"), low, pair.u + 1)

    def jump(
        self, net: NetHandle, x: torch.Tensor, t: torch.Tensor, end: torch.Tensor, batch: Batch,
        scale: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        """f(x, t -> end) by TCF(1), TCF(2) or TCF(S+); gradients reach all evaluations."""
        process, config = self.backbone.process, self.config

        def predict(x: torch.Tensor, t: torch.Tensor) -> Prediction:
            return self.backbone.predict(
                net, x, t, batch.cond,
                embed_scale=scale if config.embeds else None,
                end_t=end if config.tcf == "S+" else None,
            )  # fmt: skip

        pred = predict(x, t)
        if config.tcf == "2":
            return second_order_jump(
                process, x, pred.x0, pred.eps, t, end, lambda x_m, m: predict(x_m, m).x0
            )
        return ddim(pred.x0, pred.eps, *process.alpha_sigma(end, x))

    def sampler(self, nfe: int) -> GammaSampler:
        """Strategic stochastic sampling (alg. 4): 999, 759, 499, 259 for 4 steps."""
        config = self.config
        order = 2 if config.tcf == "2" else 1
        steps, rest = divmod(nfe, order)
        if rest or not 0 < steps <= config.solver_steps:
            what = "TCF(2) takes 2 evaluations a step, so" if rest else "with its solver grid"
            raise NotSupported(f"{self.name}: {what} {nfe} evaluations are not possible")
        return GammaSampler(
            timesteps=lcm_grid(steps, config.solver_steps, self.backbone.num_timesteps),
            gamma=config.gamma,
            order=order,
            embed_end=config.tcf == "S+",
            embed_scale=config.sample_guidance if config.embeds else None,
        )
