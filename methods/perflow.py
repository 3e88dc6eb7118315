"""PeRFlow: piecewise rectified flow (arXiv 2405.07510); InstaFlow with one window (2309.06380)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distillbench.api.method import Batch, Losses, Method, NetSpec
from distillbench.core.lazy import torch
from distillbench.core.loss import squared_error
from distillbench.core.process import per_sample
from distillbench.errors import NotSupported

from .settings.perflow import PeRFlowConfig
from .shared.scores import walked
from .shared.snapshot import take
from .shared.windows import Windows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

    from distillbench.api.backbone import Backbone, Prediction
    from distillbench.api.nets import NetHandle
    from distillbench.api.sampler import Sampler

__all__ = ["PeRFlow", "PeRFlowConfig"]


class PeRFlow(Method):
    """The teacher's curved trajectory is made straight within each of W windows of time.

    A window from s down to e: x_s ~ q(x_s | x_0), in the first one pure noise; x_e is where K DDIM
    steps of the guided teacher take it; x_t = x_s + (t - s) / (e - s) (x_e - x_s).

        student  min_theta  | n_theta(x_t, t) - n |^2,  x_e = l x_s + n_e n,  l = alpha_e / alpha_s

    n is the noise that gives the window's end, n_e = -sqrt(l^2 - 1) ("diff_eps") or
    sigma_e - l sigma_s ("ddim_eps"). "velocity": x / (alpha + sigma) is straight in
    sigma / (alpha + sigma), and the network's eps - x0 its velocity; so flow models are trained.

    W = 1 is reflow; then `one_step_share` has InstaFlow's distillation of the reflowed student v:

        student  min_theta  | z's end in one step of theta - z's end in K steps of v |^2
    """

    Config = PeRFlowConfig
    title, paper = "PeRFlow", "PeRFlow (arXiv 2405.07510)"

    def __init__(self, config: BaseModel, backbone: Backbone) -> None:
        """Refuses windows that the backbone's times have not; one window begins at pure noise."""
        super().__init__(config, backbone)
        self.windows = Windows(self.config, backbone)
        self.windows.check()
        if self.config.windows > 1:
            self.needs = self.needs | {"latents"}

    def nets(self) -> dict[str, NetSpec]:
        """The student, and what it was at the end of the reflow."""
        config, student = self.config, self.config.role("student", ema=self.config.ema)
        return {"student": student, **({"flow": config.role("flow")} if self.distils else {})}

    @property
    def distils(self) -> bool:
        """Whether there is a one-step phase."""
        return bool(self.config.one_step_share)

    def turns(self, step: int) -> tuple[str, ...]:
        """The student alone."""
        return ("student",)

    def bind(self, nets: Mapping[str, NetHandle]) -> None:
        """See `Method.bind`; of pure noise without any signal no noise tells the window's end."""
        super().bind(nets)
        self.windows.check_signal()

    def loss(self, turn: str, batch: Batch, step: int) -> Losses:
        """| n_theta(x_t, t) - n |^2, or the one-step phase's."""
        start = round(self.total_steps * (1 - self.config.one_step_share))
        if self.distils and step >= start:
            take(self.net["flow"], self.net["student"], now=step == start)
            return self.one_step(batch)
        t, s, e = self.windows.draw(batch)
        x_s = self.start(batch, s)
        x_t, target = self.windows.point(x_s, self.solve(x_s, s, e, batch), t, s, e)
        said = self.windows.read(self.predict("student", x_t, t, batch))
        return Losses(squared_error(said, target))

    def start(self, batch: Batch, s: torch.Tensor) -> torch.Tensor:
        """x_s, (B, ...)."""
        noise = batch.randn("noise")
        if self.config.windows == 1:
            return noise
        assert batch.latents is not None, "windows start from real latents"
        x = self.backbone.process.add_noise(batch.latents, noise, self.windows.index(s))
        return torch.where(per_sample(s == self.windows.edges()[0], x) > 0, noise.to(x.dtype), x)

    def solve(
        self, x: torch.Tensor, s: torch.Tensor, e: torch.Tensor, batch: Batch
    ) -> torch.Tensor:
        """x_e: K DDIM steps of the guided teacher from x_s, without gradient."""
        scale = self.config.teacher_guidance
        parts = self.windows.parts(s, e, self.config.solver_steps)
        return walked(self, lambda x, t: self.teacher(x, t, batch, scale), x, parts)

    def one_step(self, batch: Batch) -> Losses:
        """| z's end in one step of theta - z's end in K steps of v |^2."""
        z = batch.randn("noise")
        with torch.no_grad():
            target = self.end("flow", z, self.config.solver_steps, batch)
        return Losses(squared_error(self.end("student", z, 1, batch), target))

    def end(self, role: str, z: torch.Tensor, steps: int, batch: Batch) -> torch.Tensor:
        """Where straight steps of a role take noise."""

        def denoise(x_t: torch.Tensor, t: torch.Tensor, **_: Any) -> Prediction:
            return self.predict(role, x_t, t, batch)

        sampler = self.windows.sampler(steps)
        return sampler.sample(denoise, z, self.backbone.process, lambda _: z)

    def sampler(self, nfe: int) -> Sampler:
        """999, 749, 499, 249 for 4 windows and steps; where noise is read 1000, 750, 500, 250."""
        if self.distils and nfe != 1:
            raise NotSupported(f"{self.name} distilled into one step is not sampled with {nfe}")
        return self.windows.sampler(nfe)
