"""TSCD: trajectory segmented consistency distillation, of Hyper-SD (arXiv 2404.13686)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distillbench.api.method import Losses, NetSpec
from distillbench.api.samplers import GammaSampler, OdeSampler
from distillbench.core.lazy import torch
from distillbench.core.loss import adversarial_loss, discriminator_loss
from distillbench.core.solve import ddim

from .settings.tscd import Phase, TSCDConfig
from .shared.consistency import Consistency, SolverStep, offset_noise
from .shared.one_step import fake_losses, one_step_scale, student_losses
from .shared.pair_discriminator import PairDiscriminator, mixed_losses

if TYPE_CHECKING:
    from distillbench.api.method import Batch
    from distillbench.api.nets import NetHandle

__all__ = ["TSCD", "TSCDConfig"]


class TSCD(Consistency):
    """Consistency within segments of time, whose number falls from phase to phase (alg. 1).

    x_u: one guided DDIM step of the teacher from x_t; s on the grid from the lower edge of t's
    segment to u; f(x, t -> s): one DDIM step of the network.

        student  min_theta  d( f(x_t, t -> s), sg f_ema(x_u, u -> s) )                   (eq. 13)
                 d = w_mse |.|^2 + w_adv softplus(-D), by phase
        fake     in the one-step phase: plain denoising of the student's one-step samples
        disc     min_D  softplus(D(student's jump)) + softplus(-D(target's jump))

    One segment is TCD; s at the edge (`ends: edge`) is PCM (arXiv 2405.18407). `one_step` adds the
    last phase (section 3.3), whose student's loss has DMD and a regression beside.
    """

    Config = TSCDConfig
    title, paper = "TSCD", "Hyper-SD (arXiv 2404.13686)"

    def nets(self) -> dict[str, NetSpec]:
        """The student; the discriminator's head and the fake score where a phase needs them."""
        config, roles = self.config, {"student": self.student_spec()}
        if config.adversarial:
            roles["disc"] = NetSpec(config.optim("disc", lr=config.disc_lr), "head")
        if config.matches:
            conditions = ("guidance",) if config.embeds else ()
            roles["fake"] = config.role("fake", lr=config.fake_lr, conditions=conditions)
        return roles

    @property
    def crosses_roles(self) -> str:
        """The adversary's gradient goes through the teacher's features."""
        return "the adversarial distance" if self.config.adversarial else ""

    def turns(self, step: int) -> tuple[str, ...]:
        """The student, then what the step's phase has of fake score and discriminator."""
        config = self.config
        phase = config.phase(step, self.total_steps)
        fake = config.fake_updates * ("fake",) if phase.one_step and config.matches else ()
        return ("student", *fake, *(("disc",) if phase.w_adv else ()))

    def loss(self, turn: str, batch: Batch, step: int) -> Losses:
        """The student's consistency, in the last phase with its one step; or another role's."""
        if turn == "fake":
            return fake_losses(self, batch)
        phase = self.config.phase(step, self.total_steps)
        s, end = batch.once("times", lambda: self.times(batch, phase))
        if turn == "disc":
            with torch.no_grad():
                jumps = batch.once("jumps", lambda: self.jumps(self.jump, s, end, batch))
            fake, real = (self.logits(x, s, end, batch) for x in jumps)
            scalars = {"real": real.mean(), "fake": fake.mean()}
            return Losses(discriminator_loss(fake, real), scalars)
        pred, target = self.jumps(self.jump, s, end, batch)
        batch.once("jumps", lambda: (pred.detach(), target))
        losses = mixed_losses(
            pred, phase.w_mse, lambda x: self.distance(x, target),
            phase.w_adv, lambda x: adversarial_loss(self.logits(x, s, end, batch)),
        )  # fmt: skip
        if not phase.one_step:
            return losses
        more = student_losses(self, batch)
        scalars = {"consistency": losses.total, **losses.scalars, **more.scalars}
        return Losses(losses.total + more.total, scalars)

    def times(self, batch: Batch, phase: Phase) -> tuple[SolverStep, torch.Tensor]:
        """The teacher's step, and where the jumps end."""
        noise = offset_noise(batch, self.config.offset_noise, self.backbone.modality)
        s = self.solver_step(batch, noise)
        return s, self.grid_end(s, batch, phase.segments, edge=self.config.ends == "edge")

    def jump(
        self, net: NetHandle, x: torch.Tensor, t: torch.Tensor, end: torch.Tensor, batch: Batch,
        scale: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        """f(x, t -> end)."""
        embed = scale if self.config.embeds else None
        pred = self.backbone.predict(net, x, t, batch.cond, embed_scale=embed)
        return ddim(pred.x0, pred.eps, *self.backbone.process.alpha_sigma(end, x))

    def logits(
        self, x: torch.Tensor, s: SolverStep, end: torch.Tensor, batch: Batch
    ) -> torch.Tensor:
        """D of a jump's end x, given its start."""
        discriminator = PairDiscriminator(self.backbone, self.net["disc"].module)
        return discriminator.logits(x, end, s.x_t, s.t, batch.cond)

    def conditions(self, batch: Batch) -> dict[str, Any]:
        """The guidance scale of the one step, where it is told."""
        return {"embed_scale": one_step_scale(self.config, batch)} if self.config.embeds else {}

    def make_head(self, name: str) -> torch.nn.Module:
        """The discriminator's head."""
        return PairDiscriminator(self.backbone).make_head()

    def sampler(self, nfe: int) -> OdeSampler | GammaSampler:
        """DDIM on the solver grid, 999, 749, 499, 249 for 4 steps, or TCD's with `gamma`.

        Steps stop at every edge, so their number is a multiple of the last phase's segments.
        """
        config = self.config
        config.check_steps(nfe, self.name)
        times = self.sampling_times(nfe)
        scale = config.sample_guidance if config.embeds else None
        if config.gamma is None:
            return OdeSampler(timesteps=times, embed_scale=scale)
        return GammaSampler(timesteps=times, gamma=config.gamma, embed_scale=scale)
