"""Flow maps: the average velocity over any span of time (MeanFlow, arXiv 2505.13447)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distillbench.api.method import Batch, Losses, Method, NetSpec
from distillbench.api.samplers import GammaSampler
from distillbench.core.lazy import torch
from distillbench.core.loss import sample_mean, squared_error
from distillbench.core.windows import straight
from distillbench.errors import NotSupported

from .settings.flow_map import FlowMapConfig
from .shared.scores import any_time, velocity

if TYPE_CHECKING:
    from pydantic import BaseModel

    from distillbench.api.backbone import Backbone

__all__ = ["FlowMap", "FlowMapConfig"]


class FlowMap(Method):
    """One student for any number of steps: told where it ends, it jumps from any t to any r < t.

    In y = x / (alpha + sigma) and s = sigma / (alpha + sigma) every process is a flow,
    y = (1 - s) x0 + s eps, and v = eps - x0; for flow models y is x and s is sigma.

        student  min_theta  | u_theta(y_t, t, r) - sg[ v - (s_t - s_r) d u_theta / ds ] |^2 w
                 d u / ds = ( u(y_+, t_+, r) - u(y_-, t_-, r) ) / (s_+ - s_-),
                 y_+- = y_t + (s_+- - s_t) v,  t_+- = t +- d                             (eq. 11)

    v: the guided teacher's velocity at (x_t, t), or the data's; u_theta = eps_theta - x0_theta; so
    the jump y_r = y_t - (s_t - s_r) u_theta is a DDIM step. The paper has the derivative by forward
    mode (`derivative: jvp`), which attention kernels lack.
    """

    Config = FlowMapConfig
    needs = frozenset({"prompts", "latents"})
    title, paper = "Flow map", "MeanFlow (arXiv 2505.13447)"

    def __init__(self, config: BaseModel, backbone: Backbone) -> None:
        """Refuses forward mode where the backbone's networks lack it."""
        super().__init__(config, backbone)
        if self.config.derivative == "jvp" and not backbone.forward_mode:
            raise NotSupported(
                f"derivative jvp: networks of backbone {backbone.name} have no forward mode",
                hint="set derivative: difference",
            )

    def nets(self) -> dict[str, NetSpec]:
        """One student, told its end by an embedding that starts at zero."""
        config = self.config
        return {"student": config.role("student", ema=config.ema, conditions=("end_t",))}

    def loss(self, turn: str, batch: Batch, step: int) -> Losses:
        """| u_theta(y_t, t, r) - sg[ v - (s_t - s_r) d u_theta / ds ] |^2 w."""
        assert batch.latents is not None, "a flow map needs real latents"
        config, process, noise = self.config, self.backbone.process, batch.randn("noise")
        t = any_time(self.backbone, batch, "student")
        r = self.end(t, batch)
        x_t = process.add_noise(batch.latents, noise, t)
        with torch.no_grad():
            v = noise - batch.latents
            if config.velocity == "teacher":
                v = velocity(self.teacher(x_t, t, batch, config.teacher_guidance))
            target = v - (straight(process, t, x_t)[1] - straight(process, r, x_t)[1]) * self.slope(
                x_t, t, r, v, batch
            )
        u = self.average(x_t, t, r, batch)
        weight = (sample_mean((u - target) ** 2).detach() + config.adaptive_c) ** (
            -config.adaptive_power
        )
        return Losses(squared_error(u, target, weight), {"error": squared_error(u, target)})

    def end(self, t: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) r: t itself, the end, or anywhere between."""
        config, final = self.config, self.backbone.process.final
        r = final + batch.rand("end") * (t - final)
        r = r if t.is_floating_point() else r.floor().to(t.dtype)
        kind = batch.rand("kind")
        r = torch.where(kind >= 1 - config.end_share, torch.full_like(t, final), r)
        return torch.where(kind < config.instant_share, t, r)

    def slope(
        self, x_t: torch.Tensor, t: torch.Tensor, r: torch.Tensor, v: torch.Tensor, batch: Batch
    ) -> torch.Tensor:
        """d u / ds along v, (B, ...)."""
        process = self.backbone.process
        size, s = straight(process, t, x_t)

        def along(near: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            to, s_near = straight(process, near, x_t)
            x = to * (x_t / size + (s_near - s) * v)
            return self.average(x, near, r, batch), s_near

        if self.config.derivative == "jvp":
            real = t.to(x_t.dtype)
            found: Any = torch.func.jvp(along, (real,), (torch.ones_like(real),))
            forward: torch.Tensor = found[1][0] / found[1][1]
            return forward
        d, last = self.config.difference_times, process.num_timesteps - (process.kind != "flow")
        # Within [r, the last time].
        above, s_above = along((t + d).clamp(max=last))
        below, s_below = along(torch.maximum(t - d, r))
        return (above - below) / (s_above - s_below).clamp(min=1e-9)

    def average(
        self, x: torch.Tensor, t: torch.Tensor, r: torch.Tensor, batch: Batch
    ) -> torch.Tensor:
        """u_theta(x, t, r)."""
        net = self.net["student"]
        return velocity(self.backbone.predict(net, x, t, batch.cond, end_t=r))

    def sampler(self, nfe: int) -> GammaSampler:
        """Jumps between the family's own times: 999, 749, 499, 249 for 4 steps."""
        return GammaSampler(timesteps=self.backbone.nodes(nfe), gamma=0, embed_end=True)
