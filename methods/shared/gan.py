"""The GAN of distribution matching (DMD2, arXiv 2405.14867, section 4.3)."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING

from distillbench.api.method import Batch, Losses, Method, NetSpec
from distillbench.core.lazy import torch
from distillbench.core.loss import adversarial_loss, discriminator_loss
from distillbench.errors import NotSupported

from .heads import build_head, logits_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import BaseModel

    from distillbench.api.backbone import Backbone

__all__ = ["Adversarial", "Noised"]

Noised = tuple["torch.Tensor", "torch.Tensor"]
"""(x_t, t), (B, ...) and (B,)."""

CHANCE = 2 * math.log(2)
"""The discriminator's loss where it cannot tell the student's samples from real latents."""

AT_CHANCE = 0.01
"""A discriminator whose loss is less than this below chance tells nothing."""


class Adversarial(Method):
    """What a GAN adds to a method with a fake score and the settings `GanConfig`.

    Nothing while `adversarial_weight` is 0; with it, backbones without features are refused. Fake
    score and head are updated in one turn by one backward pass, as in DMD2's released code.
    """

    def __init__(self, config: BaseModel, backbone: Backbone) -> None:
        super().__init__(config, backbone)
        if not self.adversarial:
            return
        self.needs = self.needs | {"latents"}
        self.version = type(self).version + 2  # fake score and head share a turn since 2
        if not backbone.has_features:
            raise NotSupported(
                f"a GAN needs features, which backbone {backbone.name} does not offer",
                hint="set adversarial_weight: 0",
            )

    @property
    def adversarial(self) -> bool:
        """Whether there is a GAN."""
        return bool(self.config.adversarial_weight > 0)

    @property
    def crosses_roles(self) -> str:
        """The student's GAN loss goes through the network that the head reads."""
        return "the GAN" if self.adversarial else super().crosses_roles

    def with_head(self, nets: Mapping[str, NetSpec]) -> dict[str, NetSpec]:
        """`nets` and, after the fake score, the head, with its optimizer unless set otherwise."""
        config, fake = self.config, nets["fake"]
        given = {"lr": config.disc_lr, "betas": config.disc_betas}
        own = {name: value for name, value in given.items() if value is not None}
        head = {"head": NetSpec(replace(fake.optim, **own), "head")} if self.adversarial else {}
        return {"fake": fake, **head, **nets}

    def turns(self, step: int) -> tuple[str, ...]:
        """R times the fake score, with the head where there is one, then the student."""
        return (*self.config.fake_updates * ("fake",), "student")

    def trains(self, turn: str) -> tuple[str, ...]:
        """The head learns in the fake score's turn."""
        return ("fake", "head") if turn == "fake" and self.adversarial else (turn,)

    def make_head(self, name: str) -> torch.nn.Module:
        """The discriminator's head, sized for the backbone's bottleneck."""
        return build_head(self.backbone)

    def warnings(self, log: Sequence[Mapping[str, float]]) -> list[str]:
        """That the discriminator has stayed at chance, in the log's last quarter on average."""
        losses = [row["fake/discriminator"] for row in log if "fake/discriminator" in row]
        late = losses[-max(len(losses) // 4, 1) :]
        if not losses or (loss := sum(late) / len(late)) < CHANCE - AT_CHANCE:
            return []
        return [
            f"the discriminator stays at chance (its loss is {loss:.3f}, chance {CHANCE:.3f}): the "
            "student's samples are as the real ones, or it does not learn; then give it a disc_lr "
            "and disc_betas of its own, or set adversarial_features: teacher"
        ]

    # ---- losses -----------------------------------------------------------------------------

    @abstractmethod
    def fake_and_real(self, batch: Batch) -> tuple[Noised, Noised]:
        """What the discriminator is to tell apart: samples of the student and latents, noised."""

    def with_discriminator(self, losses: Losses, batch: Batch) -> Losses:
        """The fake score's losses and, with a GAN, the discriminator's.

        Its gradient reaches the head, and the fake score where that is what the head reads.
        """
        if not self.adversarial:
            return losses
        fake, real = self.fake_and_real(batch)
        loss = discriminator_loss(self._logits(*fake, batch), self._logits(*real, batch))
        total = losses.total + self.config.discriminator_weight * loss
        told = {"discriminator": loss, "chance": torch.full_like(loss, CHANCE)}
        return Losses(total, {**losses.scalars, **told})

    def with_adversary(self, losses: Losses, noised: Noised, batch: Batch) -> Losses:
        """The student's losses and its GAN loss at its noised samples, which carry gradient."""
        fooled = adversarial_loss(self._logits(*noised, batch))
        total = losses.total + self.config.adversarial_weight * fooled
        return Losses(total, {**losses.scalars, "adversarial": fooled})

    def _logits(self, x_t: torch.Tensor, t: torch.Tensor, batch: Batch) -> torch.Tensor:
        fake = self.config.adversarial_features == "fake"
        net, conditions = (self.net["fake"], self.conditions(batch)) if fake else (None, {})
        (hidden,) = self.backbone.features(net, x_t, t, batch.cond, ["mid"], **conditions)
        with self.net["head"].active():
            return logits_of(self.net["head"].module, hidden)
