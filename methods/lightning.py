"""Progressive distillation (arXiv 2202.00512), adversarial in SDXL-Lightning (arXiv 2402.13929)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distillbench.api.method import Batch, Losses, Method, NetSpec
from distillbench.api.samplers import OdeSampler
from distillbench.core.lazy import torch
from distillbench.core.loss import adversarial_loss, discriminator_loss, squared_error
from distillbench.core.solve import ddim
from distillbench.errors import NotSupported

from .settings.lightning import LightningConfig, Round
from .shared.pair_discriminator import PairDiscriminator, mixed_losses
from .shared.progressive import Pair, walk, x0_weight
from .shared.snapshot import take

if TYPE_CHECKING:
    from pydantic import BaseModel

    from distillbench.api.backbone import Backbone

__all__ = ["Lightning", "LightningConfig"]


class Lightning(Method):
    """A student does in one step what its teacher does in several, and then teaches the next.

    In a stage from m to n steps: t is one of the n times, s the next; x_t ~ q(x_t | x_0), pure
    noise at the first; x_s: m / n DDIM steps of the teacher; f(x, t -> s): one of the student.

        student  min_theta  w_mse max(SNR_t, 1) | x0_theta(x_t, t) - x0' |^2 + w_adv softplus(-D(f))
                 x0' = (x_s - (sigma_s / sigma_t) x_t) / (alpha_s - (sigma_s / sigma_t) alpha_t)
        disc     min_D      softplus(D(f)) + softplus(-D(x_s))

    x0' is the prediction whose step is x_s (2202.00512, appendix G). The first stage's teacher is
    the guided original, without D. In later ones D sees x_t too at first, which keeps the student
    on the trajectory, and f or x_s alone at last (2402.13929, section 4).
    """

    Config = LightningConfig
    needs = frozenset({"prompts", "latents"})
    title, paper = "Progressive distillation", "SDXL-Lightning (arXiv 2402.13929)"

    def __init__(self, config: BaseModel, backbone: Backbone) -> None:
        """Refuses more steps of the teacher than it has times."""
        super().__init__(config, backbone)
        steps = self.config.teacher_steps
        if len(set(backbone.solver_times(steps))) < steps:
            raise NotSupported(f"teacher_steps {steps} are more than {backbone.name} has times for")

    def nets(self) -> dict[str, NetSpec]:
        """The student, the one of the stage before, and the discriminator's head."""
        config = self.config
        roles = {"student": config.role("student", ema=config.ema)}
        if len(config.stages) > 1:
            roles["before"] = config.role("before")
        if config.adversarial:
            roles["disc"] = NetSpec(config.optim("disc", lr=config.disc_lr), "head")
        return roles

    @property
    def crosses_roles(self) -> str:
        """The adversary's gradient goes through the teacher's features."""
        return "w_adv" if self.config.adversarial else ""

    def turns(self, step: int) -> tuple[str, ...]:
        """The student, then the discriminator where the stage has one."""
        return ("student", "disc") if self.stage(step).adversarial else ("student",)

    def stage(self, step: int) -> Round:
        """The stage of a step."""
        found: Round = self.config.stage(step, self.total_steps)
        return found

    def loss(self, turn: str, batch: Batch, step: int) -> Losses:
        """Error and adversary of the student's jump, or the discriminator's."""
        stage, student = self.stage(step), self.net["student"]
        if not stage.original and turn == "student":
            take(self.net["before"], student.ema or student, now=step == stage.first)
        pair = batch.once("pair", lambda: self.pair(batch, stage))
        if turn == "disc":
            with torch.no_grad():
                f = batch.once("jump", lambda: self.jump(pair, batch))
            fake, real = (self.logits(x, pair, batch, stage) for x in (f, pair.x_s))
            return Losses(discriminator_loss(fake, real), {"real": real.mean()})
        f = self.jump(pair, batch)
        batch.once("jump", f.detach)
        weight = x0_weight(self.backbone.process, pair) if self.config.weight == "snr" else None
        w_adv = self.config.w_adv if stage.adversarial else 0.0
        return mixed_losses(
            f, self.config.w_mse if w_adv else 1.0, lambda x: squared_error(x, pair.x_s, weight),
            w_adv, lambda x: adversarial_loss(self.logits(x, pair, batch, stage)),
        )  # fmt: skip

    def pair(self, batch: Batch, stage: Round) -> Pair:
        """x_t, and where the stage's teacher takes it, without gradient."""
        scale = self.config.teacher_guidance
        if stage.original:
            return walk(self, stage, lambda x, t: self.teacher(x, t, batch, scale), batch)
        return walk(self, stage, lambda x, t: self.predict("before", x, t, batch), batch)

    def jump(self, pair: Pair, batch: Batch) -> torch.Tensor:
        """f(x, t -> s)."""
        pred = self.predict("student", pair.x_t, pair.t, batch)
        return ddim(pred.x0, pred.eps, *self.backbone.process.alpha_sigma(pair.s, pair.x_t))

    def logits(self, x: torch.Tensor, at: Pair, batch: Batch, stage: Round) -> torch.Tensor:
        """D of a jump's end x."""
        discriminator = PairDiscriminator(self.backbone, self.net["disc"].module)
        paired = not stage.relaxed
        return discriminator.logits(x, at.s, at.x_t, at.t, batch.cond, paired=paired)

    def make_head(self, name: str) -> torch.nn.Module:
        """The discriminator's head."""
        return PairDiscriminator(self.backbone).make_head()

    def sampler(self, nfe: int) -> OdeSampler:
        """DDIM in as many steps as the last stage has, at the teacher's own times."""
        if nfe != (steps := self.config.stages[-1]):
            raise NotSupported(f"{self.name} trained down to {steps} steps has no {nfe}")
        return OdeSampler(timesteps=self.backbone.solver_times(nfe), solver="ddim")
