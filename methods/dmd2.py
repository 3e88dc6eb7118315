"""DMD2: improved distribution matching distillation (arXiv 2405.14867)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distillbench.api.method import Batch, Losses, NetSpec
from distillbench.api.samplers import RenoiseSampler
from distillbench.core.lazy import torch
from distillbench.core.loss import squared_error

from .settings.dmd2 import DMD2Config
from .shared.gan import Adversarial, Noised
from .shared.noised import noised_nodes
from .shared.scores import denoising_loss, dmd_losses, noised, require_trained, teacher_samples

if TYPE_CHECKING:
    from pydantic import BaseModel

    from distillbench.api.backbone import Backbone, Prediction

__all__ = ["DMD2", "DMD2Config"]


class DMD2(Adversarial):
    """The student is updated, then R times the fake score, with the GAN's head where there is one.

    x0 = f_theta(x_u, u) at one of K nodes u; x_u is simulated by the student itself (section 4.5).
    As released, the first of the R updates learns from the x0 of the student's own.

        student  gradient at x0:  (f_psi - f_phi)(x_t, t) / mean |x0 - f_phi|            (eq. 3)
        fake     min_psi    | eps_psi(x_t, t) - n |^2,  x_t = alpha x0 + sigma n,  t ~ U[0, T)
        head     min_D      softplus(D(x_t)) + softplus(-D(y_t)),  y real                (eq. 4)

    f_phi: guided teacher; f_psi: fake score. `steps: 1` with `regression` is DMD (2311.18828).
    """

    Config = DMD2Config
    title, paper = "DMD2", "DMD2 (arXiv 2405.14867)"
    version = 2  # the student comes first and shares its sample since 2

    def __init__(self, config: BaseModel, backbone: Backbone) -> None:
        super().__init__(config, backbone)
        if self.config.student_input == "data":
            self.needs = self.needs | {"latents"}

    def nets(self) -> dict[str, NetSpec]:
        """Fake score and student, and the discriminator's head where there is a GAN."""
        config = self.config
        fake = config.role("fake", lr=config.fake_lr)
        return self.with_head({"fake": fake, "student": config.role("student", ema=config.ema)})

    def turns(self, step: int) -> tuple[str, ...]:
        """The student, then R times the fake score; the student alone in its pre-training."""
        others = () if self.config.pretrains(step) else self.config.fake_updates * ("fake",)
        return ("student", *others)

    def loss(self, turn: str, batch: Batch, step: int) -> Losses:
        """Denoising (and telling real from fake), or moving the student."""
        if turn == "student":
            return Losses(self.regress(batch)) if self.config.pretrains(step) else self.move(batch)
        losses = Losses(denoising_loss(self, "fake", self.samples(batch), batch, "fake"))
        return self.with_discriminator(losses, batch)

    def move(self, batch: Batch) -> Losses:
        """The student's matching loss, with its GAN and regression where there are such."""
        x_u, u = self.student_input(batch, "student")
        pred = self.predict("student", x_u, u, batch)
        batch.once("sample", pred.x0.detach)
        losses = self.matching(pred, u, batch)
        if self.adversarial:
            x_t = noised(self, pred.x0, batch, "gan student")
            losses = self.with_adversary(losses, x_t, batch)
        if self.config.regression != "joint":
            return losses
        regression = self.regress(batch)
        total = losses.total + self.config.regression_weight * regression
        return Losses(total, {**losses.scalars, "regression": regression})

    def matching(self, pred: Prediction, u: torch.Tensor, batch: Batch) -> Losses:
        """The loss at the student's prediction of node u, (B,)."""
        return dmd_losses(self, pred, batch, "student", self.config.teacher_guidance)

    def student_input(self, batch: Batch, turn: str) -> Noised:
        """(x_u, u), (B, ...) and (B,), where the student predicts, without gradient.

        Backward simulation: as the student is sampled, up to ONE node for all samples of an update,
        so that it costs the same everywhere. "data": latents noised to nodes of their own.
        """
        process, trained = self.backbone.process, self.config.nodes(self.backbone)
        if self.config.student_input == "data":
            assert batch.latents is not None, "data input needs real latents"
            return noised_nodes(self, batch.latents, trained, batch, turn)
        nodes, x = torch.tensor(trained, device=batch.device), batch.randn(turn, "start")
        last = batch.shared_randint(0, len(nodes), turn, "steps")
        with torch.no_grad():
            for i in range(last):
                x0 = self.predict("student", x, nodes[i].expand(len(batch)), batch).x0
                x = process.add_noise(x0, batch.randn(turn, "step", i), nodes[i + 1])
        return x, nodes[last].expand(len(batch))

    def samples(self, batch: Batch) -> torch.Tensor:
        """The student's x0 for fake score and head, without gradient: its turn's or a new one."""
        with torch.no_grad():
            return batch.once(  # type: ignore[no-any-return]
                "sample",
                lambda: self.predict("student", *self.student_input(batch, "fake"), batch).x0,
            )

    def fake_and_real(self, batch: Batch) -> tuple[Noised, Noised]:
        """Samples and latents, noised independently to any times."""
        assert batch.latents is not None, "a GAN needs real latents"
        fake = noised(self, self.samples(batch), batch, "gan fake")
        return fake, noised(self, batch.latents, batch, "gan real")

    def regress(self, batch: Batch) -> torch.Tensor:
        """From one step of the student to where the teacher's ODE takes the same noise (DMD)."""
        config, noise = self.config, batch.randn("regression")
        steps, scale = config.regression_solver_steps, config.teacher_guidance
        target = teacher_samples(self.backbone, batch, noise, steps=steps, guidance_scale=scale)
        first = torch.full((len(batch),), config.nodes(self.backbone)[0], device=batch.device)
        return squared_error(self.predict("student", noise, first, batch).x0, target)

    def sampler(self, nfe: int) -> RenoiseSampler:
        """The trained times, or some of them."""
        trained = self.config.nodes(self.backbone)
        nodes = trained if nfe == self.config.steps else self.backbone.nodes(nfe)
        return RenoiseSampler(timesteps=require_trained(self, nodes, trained, nfe), boundary=False)
