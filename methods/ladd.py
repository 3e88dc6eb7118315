"""LADD: latent adversarial diffusion distillation (arXiv 2403.12015); ADD (arXiv 2311.17042)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distillbench.api.method import Batch, Losses, Method, NetSpec
from distillbench.api.samplers import RenoiseSampler
from distillbench.core.lazy import torch
from distillbench.core.loss import adversarial_loss, discriminator_loss, squared_error
from distillbench.errors import NotSupported

from .settings.ladd import LADDConfig
from .shared.extractor import Critic, needed
from .shared.noised import drawn_node, noised_nodes, simulated_nodes
from .shared.scores import noised, require_trained, teacher_samples

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import BaseModel

    from distillbench.api import Need
    from distillbench.api.backbone import Backbone

__all__ = ["LADD", "LADDConfig"]


class LADD(Method):
    """A GAN alone: heads on the frozen teacher tell the student's samples from its own.

    y: samples of the guided teacher, or real latents. x = f_theta(y_u, u) at one of K nodes u,
    y_u ~ q(y_u | y), or its own steps so far; pure noise first. h(x_t, t): teacher's activations.

        disc     min_D      relu(1 + D(h(x_t, t))) + relu(1 - D(h(y_t', t')))  (+ r1 R1)
        student  min_theta  -D(h(x_t, t))  (+ w alpha_s | x - sg f_phi(x_s, s) |^2)

    t, t': T sigmoid(n), n normal, drawn apart. D is one for all u, or one for each. An
    `extractor`'s h takes x and y as they are; with it and w this is ADD.
    """

    Config = LADDConfig
    title, paper = "LADD", "LADD (arXiv 2403.12015)"

    def __init__(self, config: BaseModel, backbone: Backbone) -> None:
        """Refuses backbones without features, unless there is an extractor."""
        super().__init__(config, backbone)
        self.critic = Critic(self, self.config.steps if self.config.heads == "each" else 1)
        if self.config.data == "latents":
            self.needs = self.needs | {"latents"}
        if not self.config.extractor and not backbone.has_features:
            raise NotSupported(
                f"{self.name} needs features, which backbone {backbone.name} does not offer",
                hint="set extractor: package.module:function",
            )

    def requirements(self) -> Sequence[Need]:
        """The extractor's package."""
        return (needed(self.config.extractor),) if self.config.extractor else ()

    def nets(self) -> dict[str, NetSpec]:
        """Heads and student."""
        config = self.config
        heads = config.optim("disc", lr=config.disc_lr, betas=config.disc_betas)
        return {"disc": NetSpec(heads, "head"), "student": config.role("student", ema=config.ema)}

    @property
    def nodes(self) -> Sequence[int]:
        """The K input times."""
        return self.backbone.nodes(self.config.steps)

    @property
    def crosses_roles(self) -> str:
        """The student's gradient goes through what the heads read."""
        return "the adversarial loss"

    def turns(self, step: int) -> tuple[str, ...]:
        """The heads, then the student."""
        return (*self.config.disc_updates * ("disc",), "student")

    def loss(self, turn: str, batch: Batch, step: int) -> Losses:
        """Telling both apart; or fooling the heads, and staying with the teacher."""
        config, critic = self.config, self.critic
        y = batch.once("data", lambda: self.data(batch))
        k = drawn_node(self.nodes, batch, turn)
        if turn == "disc":
            with torch.no_grad():
                h_x = critic.features(self.sample(y, batch, turn), batch, "of fake")
                h_y = critic.features(y, batch, "of real")
            fake, real = critic.logits(h_x, k), critic.logits(h_y, k)
            loss = discriminator_loss(fake, real, config.loss)
            r1 = config.r1 * critic.penalty(h_y, k) if config.r1 else 0.0
            return Losses(loss + r1, {"real": real.mean(), "fake": fake.mean()})
        x = self.sample(y, batch, turn)
        logits = critic.logits(critic.features(x, batch, "of student"), k)
        fooled = adversarial_loss(logits, config.loss)
        if not config.w_distillation:
            return Losses(fooled)
        apart = self.apart(x, batch)
        return Losses(fooled + config.w_distillation * apart, {"distillation": apart})

    def data(self, batch: Batch) -> torch.Tensor:
        """y, (B, ...), without gradient."""
        if batch.latents is not None:
            return batch.latents
        steps, scale = self.config.solver_steps, self.config.teacher_guidance
        noise = batch.randn("data")
        return teacher_samples(self.backbone, batch, noise, steps=steps, guidance_scale=scale)

    def sample(self, y: torch.Tensor, batch: Batch, turn: str) -> torch.Tensor:
        """x = f_theta(y_u, u)."""
        data, drawn = self.config.student_input == "data", (self.nodes, batch, turn)
        x, u = noised_nodes(self, y, *drawn) if data else simulated_nodes(self, *drawn)
        return self.predict("student", x, u, batch).x0

    def apart(self, x: torch.Tensor, batch: Batch) -> torch.Tensor:
        """alpha_s | x - sg f_phi(x_s, s) |^2, at any time s (ADD, section 3.3)."""
        with torch.no_grad():
            x_s, s = noised(self, x.detach(), batch, "distillation")
            f_phi = self.teacher(x_s, s, batch, self.config.teacher_guidance).x0
        return squared_error(x, f_phi, self.backbone.process.alpha_sigma(s, x)[0])

    def make_head(self, name: str) -> torch.nn.Module:
        """A head for each of the features."""
        return self.critic.make_head()

    def sampler(self, nfe: int) -> RenoiseSampler:
        """The trained times, or some of them."""
        times = require_trained(self, self.backbone.nodes(nfe), self.nodes, nfe)
        return RenoiseSampler(timesteps=times)
