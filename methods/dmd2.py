"""DMD2: match distributions with a fast fake score, inputs simulated by the student, and a GAN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from distillbench.core.lazy import torch
from distillbench.core.loss import squared_error
from distillbench.errors import NotSupported
from distillbench.sample.solvers import RenoiseSampler
from distillbench.train.method import Batch, Losses, NetSpec

from ._denoising import any_time, denoising_loss
from ._discriminator import Adversarial, Noised
from ._dmd2_config import DMD2Config
from ._matching import dmd_loss
from ._regression import teacher_samples
from ._simulation import from_data, simulated

if TYPE_CHECKING:
    from distillbench.backbones.base import Backbone, Prediction

__all__ = ["DMD2"]


class DMD2(Adversarial):
    """Improved distribution matching distillation (arXiv 2405.14867).

    The student predicts clean samples from K noise levels. They are noised afresh to any time; a
    fake score learns theirs with plain denoising, R times as often as the student moves along
    x0_real - x0_fake, each sample divided by mean |x0 - x0_real| (eq. 3; DMD, arXiv 2311.18828).
    """

    Config = DMD2Config
    title = "DMD2"
    paper = "DMD2 (arXiv 2405.14867)"

    def __init__(self, config: DMD2Config, backbone: Backbone) -> None:
        super().__init__(config, backbone)
        if config.student_input == "data":
            self.needs = self.needs | {"latents"}

    def nets(self) -> dict[str, NetSpec]:
        """Fake score and student, and the discriminator's head where there is a GAN."""
        config = self.config
        fake, student = config.role(lr=config.fake_lr), config.role(ema=config.ema)
        return self.with_head({"fake": fake, "student": student})

    def turns(self, step: int) -> Sequence[str]:
        """R times the fake score (and the head), then the student; it alone in its pre-training."""
        if self._pretraining(step):
            return ("student",)
        others = ("fake", "head") if self.adversarial else ("fake",)
        return (*self.config.fake_updates * others, "student")

    def sampler(self, nfe: int) -> RenoiseSampler:
        """The trained times; fewer steps are possible where their times are among them."""
        trained = self._nodes()
        nodes = trained if nfe == self.config.steps else self.backbone.nodes(nfe)
        if not set(nodes) <= set(trained):
            raise NotSupported(
                f"{self.name} trained with steps={self.config.steps} cannot be sampled with {nfe} "
                f"evaluations: times {nodes} were not trained"
            )
        return RenoiseSampler(timesteps=nodes, boundary=False)

    def loss(self, turn: str, batch: Batch, step: int) -> Losses:
        """Denoising (and telling real from fake), or moving the student."""
        if turn == "student":
            return self._regress(batch) if self._pretraining(step) else self._student(batch)
        return self._fake(batch) if turn == "fake" else self.head_losses(batch)

    # ---- fake score and discriminator -----------------------------------------------------

    def _fake(self, batch: Batch) -> Losses:
        """The fake score is trained on all times, and matched on 2 % to 98 %."""
        x0, t = self._sample(batch), any_time(self.backbone, batch, "fake")
        noise, net = batch.randn("fake", "noise"), self.net["fake"]
        loss = denoising_loss(self.backbone, net, x0, t, noise, batch.cond, of="eps")
        return self.with_discriminator(Losses(loss), batch)

    def fake_and_real(self, batch: Batch) -> tuple[Noised, Noised]:
        """Samples and latents, noised independently to any times."""
        assert batch.latents is not None, "a GAN needs real latents"
        fake = self._noised(self._sample(batch), batch, "gan fake")
        return fake, self._noised(batch.latents, batch, "gan real")

    def _sample(self, batch: Batch) -> torch.Tensor:
        """The student's clean samples for fake score and head alike, without gradient."""

        def make() -> torch.Tensor:
            with torch.no_grad():
                return self._predict(*self.student_input(batch, "fake"), batch).x0

        return batch.once("sample", make)  # type: ignore[no-any-return]

    # ---- student --------------------------------------------------------------------------

    def _student(self, batch: Batch) -> Losses:
        pred = self._predict(*self.student_input(batch, "student"), batch)
        scale = self.config.guidance_scale
        loss, gap = dmd_loss(self.backbone, self.net["fake"], pred, batch, "student", scale)
        losses = Losses(loss, {"gap": gap})
        if self.adversarial:
            noised = self._noised(pred.x0, batch, "gan student")
            losses = self.with_adversary(losses, noised, batch)
        return self._with_regression(losses, batch)

    def _with_regression(self, losses: Losses, batch: Batch) -> Losses:
        if self.config.regression != "joint":
            return losses
        regression = self._regress(batch).total
        total = losses.total + self.config.regression_weight * regression
        return Losses(total, {**losses.scalars, "regression": regression})

    def _regress(self, batch: Batch) -> Losses:
        """From samples of one step to the teacher's of the same noise."""
        config, noise = self.config, batch.randn("regression")
        target = teacher_samples(
            self.backbone, batch, noise, steps=config.regression_solver_steps,
            guidance_scale=config.guidance_scale,
        )  # fmt: skip
        first = torch.full((len(batch),), self._nodes()[0], device=batch.device)
        pred = self._predict(noise, first, batch)
        return Losses(squared_error(pred.x0, target))

    def student_input(self, batch: Batch, turn: str) -> Noised:
        """(x_t, t), (B, ...) and (B,), where the student predicts; no gradient."""
        nodes = torch.tensor(self._nodes(), device=batch.device)
        if self.config.student_input == "data":
            return from_data(self.backbone.process, nodes, batch, turn)
        with torch.no_grad():
            return simulated(
                self.backbone.process, nodes, batch, turn,
                lambda x, t: self._predict(x, t, batch).x0,
            )  # fmt: skip

    # ---- parts ----------------------------------------------------------------------------

    def _pretraining(self, step: int) -> bool:
        return bool(self.config.regression == "pretrain" and step < self.config.regression_steps)

    def _predict(self, x: torch.Tensor, t: torch.Tensor, batch: Batch) -> Prediction:
        return self.backbone.predict(self.net["student"], x, t, batch.cond)

    def _noised(self, x0: torch.Tensor, batch: Batch, stream: str) -> Noised:
        t = any_time(self.backbone, batch, stream)
        return self.backbone.process.add_noise(x0, batch.randn(stream, "noise"), t), t

    def _nodes(self) -> tuple[int, ...]:
        told = self.config.input_time
        if told is None:
            return self.backbone.nodes(self.config.steps)
        if told >= (total := self.backbone.num_timesteps):
            raise NotSupported(f"input_time {told} is not below the {total} training times")
        return (told,)
