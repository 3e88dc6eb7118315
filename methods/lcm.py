"""LCM: latent consistency distillation (arXiv 2310.04378)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distillbench.api.method import Losses, NetSpec
from distillbench.api.samplers import RenoiseSampler
from distillbench.core.lazy import torch
from distillbench.core.solve import consistency_function
from distillbench.errors import NotSupported

from .settings.consistency import LCMConfig
from .shared.consistency import Consistency

if TYPE_CHECKING:
    from distillbench.api.method import Batch
    from distillbench.api.nets import NetHandle

__all__ = ["LCM", "LCMConfig"]


class LCM(Consistency):
    """Every point of a teacher trajectory is sent to the same clean sample (alg. 1).

    x_t ~ q(x_t | x_0), t on a grid; x_u: one DDIM step of the teacher (flow models: Euler's) from
    x_t to u, guided by w.

        student  min_theta  d( f(x_t, t, w), sg f_ema(x_u, u, w) )
                 f(x, t, w) = c_skip(t) x + c_out(t) x0_theta(x, t, w)                     (eq. 9)

    d: pseudo-Huber; f_ema: the averaged student, or the student itself. f is the identity at the
    data end, and x0 everywhere else on the grid. c_skip and c_out take 10 t; of flow models t is
    1000 sigma.
    """

    Config = LCMConfig
    title, paper = "LCM", "LCM (arXiv 2310.04378)"

    def nets(self) -> dict[str, NetSpec]:
        """One student, averaged where its average is the target."""
        return {"student": self.student_spec()}

    def loss(self, turn: str, batch: Batch, step: int) -> Losses:
        """d( f(x_t, t, w), sg f_ema(x_u, u, w) )."""
        s = self.solver_step(batch, batch.randn("noise"))
        with torch.no_grad():  # before the student's own forward: adapters are switched in place
            target = self.f(self.target_net, s.x_u, s.u, batch, s.scale)
        return Losses(
            self.distance(self.f(self.net["student"], s.x_t, s.t, batch, s.scale), target)
        )

    def f(
        self, net: NetHandle, x: torch.Tensor, t: torch.Tensor, batch: Batch, scale: torch.Tensor
    ) -> torch.Tensor:
        """The consistency function; at a clean end c_out is 0 and x0 is not used."""
        embed = scale if self.config.embeds else None
        pred = self.backbone.predict(net, x, t.clamp(min=0), batch.cond, embed_scale=embed)
        return consistency_function(x, pred.x0, t)

    def sampler(self, nfe: int) -> RenoiseSampler:
        """Multistep consistency sampling (alg. 3): 999, 759, 499, 259 for 4 steps.

        Of flow models without a shift: 1000, 760, 500, 260.
        """
        if nfe > self.config.solver_steps:
            raise NotSupported(f"{self.name} has no {nfe} times on its solver grid")
        scale = self.config.sample_guidance if self.config.embeds else None
        times = self.sampling_times(nfe)
        return RenoiseSampler(timesteps=times, boundary=True, embed_scale=scale)
