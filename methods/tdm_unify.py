"""TDM-unify: one student for several numbers of steps K, told which (arXiv 2503.06674, eq. 9)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from distillbench.api.method import Batch, Losses, NetSpec
from distillbench.api.samplers import OdeSampler
from distillbench.core.lazy import torch
from distillbench.errors import NotSupported

from .settings.tdm import TDMUnifyConfig
from .shared.gan import Adversarial, Noised
from .shared.scores import mean_losses
from .tdm import TDM

__all__ = ["TDMUnify", "TDMUnifyConfig"]


class TDMUnify(Adversarial, TDM):
    """TDM with K drawn for each update, K ~ U(steps_support), all networks but the teacher told it.

    `steps_drawn: all` takes the mean over the K instead of drawing one.

        fake     TDM's  + w_d ( softplus(D(x_tau)) + softplus(-D(y_tau)) ),  y_tau ~ q(y_tau | y)
        student  TDM's  + w_g softplus(-D(x_tau))

    The head of D learns in the fake score's turn, from real latents y; it and its terms are there
    with a GAN alone (TDM-unify-GAN; our reading, the paper gives no details): DMD2's head on
    features of the fake score, told K, or of the teacher.
    """

    Config = TDMUnifyConfig
    title, paper = "TDM-unify", "TDM (arXiv 2503.06674)"

    def nets(self) -> dict[str, NetSpec]:
        """As TDM's, conditioned on K, and the head of a GAN."""
        config, conditions = self.config, ("steps_k",) if self.config.tells_steps else ()
        fake = config.role("fake", lr=config.fake_lr, clip=False, conditions=conditions)
        student = config.role("student", ema=config.ema, conditions=conditions)
        return self.with_head({"fake": fake, "student": student})

    def steps_trained(self) -> tuple[int, ...]:
        """The support."""
        support: tuple[int, ...] = self.config.steps_support
        return support

    def steps_of(self, batch: Batch) -> int:
        """K of a batch, from a stream of its own: with one K all else is drawn as TDM draws it."""
        support = self.steps_trained()
        drawn: int = batch.once("steps", lambda: batch.shared_randint(0, len(support), "steps"))
        return support[drawn]

    def parts(self, batch: Batch) -> list[Batch]:
        """The batch, with one K, or once for every K."""
        if self.config.steps_drawn == "one":
            return [batch]
        known = range(len(self.steps_trained()))
        return batch.once(  # type: ignore[no-any-return]
            "parts", lambda: [replace(batch, _memo={"steps": index}) for index in known]
        )

    def conditions(self, batch: Batch) -> dict[str, Any]:
        """K, (B,), where it is told."""
        if not self.config.tells_steps:
            return {}
        return {"steps_k": torch.full((len(batch),), self.steps_of(batch), device=batch.device)}

    def loss(self, turn: str, batch: Batch, step: int) -> Losses:
        """TDM's, and the GAN's where there is one; of one K, or the mean over all."""
        return mean_losses([self.loss_of(turn, part) for part in self.parts(batch)])

    def loss_of(self, turn: str, batch: Batch) -> Losses:
        """The losses of a batch with its one K."""
        if turn == "fake":
            return self.with_discriminator(self.fake_losses(batch), batch)
        at, x0 = self.state(turn, batch)
        losses = self.student_losses(at, x0, batch)
        return (
            self.with_adversary(losses, (at.x_tau, at.tau), batch) if self.adversarial else losses
        )

    def fake_and_real(self, batch: Batch) -> tuple[Noised, Noised]:
        """The student's re-noised states, and latents noised to the same times."""
        assert batch.latents is not None, "a GAN needs real latents"
        at, _ = self.state("fake", batch)
        noise = batch.randn("gan real", "noise")
        real = self.backbone.process.add_noise(batch.latents, noise, at.tau)
        return (at.x_tau, at.tau), (real, at.tau)

    def sampler(self, nfe: int) -> OdeSampler:
        """K = nfe, told to the student."""
        if nfe not in self.config.steps_support:
            known = ", ".join(map(str, self.config.steps_support))
            raise NotSupported(
                f"{self.name} trained with steps_support={known} cannot be sampled with {nfe} "
                "evaluations"
            )
        return OdeSampler(
            timesteps=self.segments.nodes(nfe), solver=self.config.test_solver, end="clean",
            steps_k=nfe if self.config.tells_steps else None,
        )  # fmt: skip
