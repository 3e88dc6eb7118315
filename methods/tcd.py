"""TCD: trajectory consistency distillation (arXiv 2402.19159)."""

from __future__ import annotations

from math import isqrt
from typing import TYPE_CHECKING

from distillbench.api.method import Losses, NetSpec
from distillbench.api.samplers import GammaSampler
from distillbench.core.grid import uniform_time
from distillbench.core.lazy import torch
from distillbench.core.loss import squared_error
from distillbench.core.solve import ddim, second_order_jump
from distillbench.errors import NotSupported

from .settings.consistency import TCDConfig
from .shared.consistency import Consistency, SolverStep
from .shared.scores import noised

if TYPE_CHECKING:
    from pydantic import BaseModel

    from distillbench.api.backbone import Backbone, Prediction
    from distillbench.api.method import Batch
    from distillbench.api.nets import NetHandle

__all__ = ["TCD", "TCDConfig"]


class TCD(Consistency):
    """Any point of a teacher trajectory jumps to any later point of it (alg. 2).

    x_t ~ q(x_t | x_0), t on a grid; x_u: one guided DDIM step of the teacher from x_t;
    s ~ U[end, u].

        student  min_theta  d( f(x_t, t -> s), sg f_ema(x_u, u -> s) )
                 f(x, t -> s) = alpha_s x0_theta(x, t) + sigma_s eps_theta(x, t)         (TCF(1))

    d: squared error, weight 1 at all times. A network that is not told s cannot fit all ends at
    once, so this loss does not go to zero; TCF(S+) removes that floor. `soft_steps` and `w_score`
    are CTM's (arXiv 2310.02279).
    """

    Config = TCDConfig
    title, paper = "TCD", "TCD (arXiv 2402.19159)"

    def __init__(self, config: BaseModel, backbone: Backbone) -> None:
        """Refuses ends between grid times that the backbone's times are not."""
        super().__init__(config, backbone)
        kind = "reals" if backbone.process_kind == "flow" else "integers"
        if self.config.ends not in ("grid", kind):
            raise NotSupported(
                f"{self.name}: the times of backbone {backbone.name} are {kind}; "
                f"ends: {self.config.ends} has none of them",
                hint=f"set ends: grid or {kind}",
            )

    def nets(self) -> dict[str, NetSpec]:
        """One student; S+ adds a zero-initialised end time, so that it starts as TCF(1)."""
        return {"student": self.student_spec(*(("end_t",) if self.config.tcf == "S+" else ()))}

    def loss(self, turn: str, batch: Batch, step: int) -> Losses:
        """d( f(x_t, t -> s), sg f_ema(x_u, u -> s) ), and CTM's score matching if it is weighed."""
        s = self.solver_step(batch, batch.randn("noise"), self.soft_steps(batch))
        loss = self.distance(*self.jumps(self.jump, s, self.end_time(batch, s), batch))
        if not self.config.w_score:
            return Losses(loss)
        score = self.score(batch)
        scalars = {"consistency": loss, "score": score}
        return Losses(loss + self.config.w_score * score, scalars)

    def soft_steps(self, batch: Batch) -> int:
        """m of 1 to M, as likely as it is large (CTM, arXiv 2310.02279, released code)."""
        most = self.config.soft_steps
        place = batch.shared_randint(0, most * (most + 1) // 2, "soft steps") if most > 1 else 0
        return (isqrt(8 * place + 1) + 1) // 2

    def score(self, batch: Batch) -> torch.Tensor:
        """| eps_theta(x_t, t) - n |^2; a network that is told its end stays where it is."""
        assert batch.latents is not None, "score matching needs real latents"
        x_t, t = noised(self, batch.latents, batch, "score")
        end_t = t if self.config.tcf == "S+" else None
        scale = torch.ones(len(t), device=t.device) if self.config.embeds else None
        pred = self.backbone.predict(
            self.net["student"], x_t, t, batch.cond, embed_scale=scale, end_t=end_t
        )
        return squared_error(pred.eps, batch.randn("score", "noise"))

    def end_time(self, batch: Batch, s: SolverStep) -> torch.Tensor:
        """(B,) where the jumps end, both ends of the range included."""
        if self.config.ends == "grid":
            return self.grid_end(s, batch)
        low = torch.full_like(s.u, self.backbone.process.final)
        return uniform_time(batch.rand("end"), low, s.u)

    def jump(
        self, net: NetHandle, x: torch.Tensor, t: torch.Tensor, end: torch.Tensor, batch: Batch,
        scale: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        """f(x, t -> end) by TCF(1), TCF(2) or TCF(S+); gradients reach all evaluations."""
        process, config = self.backbone.process, self.config
        embed, end_t = scale if config.embeds else None, end if config.tcf == "S+" else None

        def predict(x: torch.Tensor, t: torch.Tensor) -> Prediction:
            return self.backbone.predict(net, x, t, batch.cond, embed_scale=embed, end_t=end_t)

        pred = predict(x, t)
        if config.tcf == "2":
            return second_order_jump(
                process, x, pred.x0, pred.eps, t, end, lambda x_m, m: predict(x_m, m).x0
            )
        return ddim(pred.x0, pred.eps, *process.alpha_sigma(end, x))

    def sampler(self, nfe: int) -> GammaSampler:
        """Strategic stochastic sampling (alg. 4): 999, 759, 499, 259 for 4 steps."""
        config, order = self.config, 2 if self.config.tcf == "2" else 1
        steps, rest = divmod(nfe, order)
        if rest or not 0 < steps <= config.solver_steps:
            what = "TCF(2) takes 2 evaluations a step, so" if rest else "with its solver grid"
            raise NotSupported(f"{self.name}: {what} {nfe} evaluations are not possible")
        return GammaSampler(
            timesteps=self.sampling_times(steps), gamma=config.gamma, order=order,
            embed_end=config.tcf == "S+",
            embed_scale=config.sample_guidance if config.embeds else None,
        )  # fmt: skip
