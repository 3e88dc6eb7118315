"""The GAN of distribution matching: DMD2's small head on the bottleneck of a denoising network.

A method with a fake score inherits `Adversarial` and its settings `GanConfig`.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from distillbench.core.lazy import torch
from distillbench.core.loss import adversarial_loss, discriminator_loss
from distillbench.errors import NotSupported
from distillbench.train.method import Batch, Losses, Method, NetSpec

from ._matching import check_recomputation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from distillbench.backbones.base import Backbone
    from distillbench.train.nets import NetHandle

__all__ = [
    "Adversarial", "GanConfig", "Noised", "build_head", "logits_of", "map_head", "norm_groups",
    "vector_head",
]  # fmt: skip

MIN_GROUP = 16
Noised = tuple["torch.Tensor", "torch.Tensor"]
"""(x_t, t), (B, ...) and (B,)."""


class GanConfig(BaseModel):
    """Settings of the GAN. It needs latents; a real latent goes with its own prompt.

    Attributes:
        adversarial_weight: w_g of the student's GAN loss, 0 = no GAN (DMD2: 1e-3 on SD v1.5, 5e-3
            on SDXL). The matching's gradient is divided by a latent's size d and the GAN's is not,
            so its share falls with sqrt(d): 1e-3 is some thousandth of the student's gradient at
            d = 512 and less in the plane. DMD2's authors advise to make both alike in length.
        discriminator_weight: w_d of the GAN loss of head and fake score.
        adversarial_features: the head reads the bottleneck of the "fake" score, which learns from
            it too, or of the frozen "teacher".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    adversarial_weight: float = Field(0.0, ge=0)
    discriminator_weight: float = Field(1e-2, ge=0)
    adversarial_features: Literal["fake", "teacher"] = "fake"

    @model_validator(mode="after")
    def _head_is_trained(self) -> Self:
        if self.adversarial_weight and not self.discriminator_weight:
            raise ValueError("adversarial_weight needs a discriminator_weight above 0")
        return self


class Adversarial(Method):
    """What a GAN (DMD2, arXiv 2405.14867, section 4.3) adds to a method with a fake score.

    Nothing while `adversarial_weight` is 0; with it, backbones without features are refused. Where
    DMD2's released code updates fake score and head in one backward pass, here they take turns.
    """

    def __init__(self, config: BaseModel, backbone: Backbone) -> None:
        super().__init__(config, backbone)
        if not self.adversarial:
            return
        self.needs = self.needs | {"latents"}
        self.version = type(self).version + 1  # heads normalise over larger groups since 1
        if not backbone.has_features:
            raise NotSupported(
                f"a GAN needs features, which backbone {backbone.name} does not offer",
                hint="set adversarial_weight: 0",
            )

    @property
    def adversarial(self) -> bool:
        """Whether there is a GAN."""
        return bool(self.config.adversarial_weight > 0)

    def conditions(self, batch: Batch) -> dict[str, Any]:
        """Extra inputs of the fake score."""
        return {}

    @abstractmethod
    def fake_and_real(self, batch: Batch) -> tuple[Noised, Noised]:
        """The student's samples and latents, noised, without gradient; the same in both turns."""

    def with_head(self, nets: Mapping[str, NetSpec]) -> dict[str, NetSpec]:
        """`nets` and, after the fake score, the head with the fake score's optimizer."""
        fake = nets["fake"]
        head = {"head": NetSpec(fake.optim, "head")} if self.adversarial else {}
        return {"fake": fake, **head, **nets}

    def bind(self, nets: Mapping[str, NetHandle]) -> None:
        """Receive the nets; refuses what would get wrong gradients."""
        super().bind(nets)
        if self.adversarial:
            check_recomputation(self.backbone, self.config.nets, "the GAN")

    def make_head(self, name: str) -> torch.nn.Module:
        """The discriminator's head, sized for the backbone's bottleneck."""
        return build_head(self.backbone)

    # ---- losses -----------------------------------------------------------------------------

    def head_losses(self, batch: Batch) -> Losses:
        """Of the head's turn."""
        return Losses(self.config.discriminator_weight * self._told_apart(batch))

    def with_discriminator(self, losses: Losses, batch: Batch) -> Losses:
        """The fake score's losses and, where the head reads it, its share in the discriminator."""
        if not self.adversarial or self.config.adversarial_features == "teacher":
            return losses
        told = self._told_apart(batch)
        total = losses.total + self.config.discriminator_weight * told
        return Losses(total, {**losses.scalars, "discriminator": told})

    def with_adversary(self, losses: Losses, noised: Noised, batch: Batch) -> Losses:
        """The student's losses and its GAN loss at its noised samples, which carry gradient."""
        if not self.adversarial:
            return losses
        fooled = adversarial_loss(self._logits(*noised, batch))
        total = losses.total + self.config.adversarial_weight * fooled
        return Losses(total, {**losses.scalars, "adversarial": fooled})

    def _told_apart(self, batch: Batch) -> torch.Tensor:
        fake, real = self.fake_and_real(batch)
        return discriminator_loss(self._logits(*fake, batch), self._logits(*real, batch))

    def _logits(self, x_t: torch.Tensor, t: torch.Tensor, batch: Batch) -> torch.Tensor:
        fake = self.config.adversarial_features == "fake"
        net, told = (self.net["fake"], self.conditions(batch)) if fake else (None, {})
        (hidden,) = self.backbone.features(net, x_t, t, batch.cond, ["mid"], **told)
        with self.net["head"].active():
            return logits_of(self.net["head"].module, hidden)


def build_head(backbone: Backbone) -> torch.nn.Module:
    """A head for what the backbone offers as "mid": maps, or vectors (B, C)."""
    null = backbone.encode_null()
    device = next(iter(null.tensors.values())).device
    x = torch.zeros(1, *backbone.latent_shape, device=device)
    t = torch.zeros(1, dtype=torch.long, device=device)
    with torch.no_grad():
        (hidden,) = backbone.features(None, x, t, null, ["mid"])
    if hidden.ndim == 2:
        return vector_head(hidden.shape[1])
    return map_head(hidden.shape[1], (hidden.shape[-2], hidden.shape[-1]))


def vector_head(channels: int) -> torch.nn.Module:
    """One hidden layer, for worlds without maps (our choice)."""
    nn = torch.nn
    return nn.Sequential(nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, 1))


def map_head(channels: int, size: tuple[int, int]) -> torch.nn.Module:
    """Halve maps of `size` until a side is below 8, then one 4 x 4 convolution to a logit.

    8 x 8 maps go 8, 4, 1 (the released SD v1.5 head), 32 x 32 ones 32, 16, 8, 4, 1 (SDXL).
    """
    nn = torch.nn
    layers: list[torch.nn.Module] = []

    def add(convolution: torch.nn.Module) -> None:
        groups = norm_groups(channels, height * width)
        layers.extend((convolution, nn.GroupNorm(groups, channels), nn.SiLU()))

    height, width = size
    while min(height, width) >= 8:
        convolution = nn.Conv2d(channels, channels, 4, stride=2, padding=1)
        height, width = height // 2, width // 2
        add(convolution)
    convolution = nn.Conv2d(channels, channels, (min(4, height), min(4, width)), stride=4)
    height, width = max(1, height // 4), max(1, width // 4)
    add(convolution)
    return nn.Sequential(*layers, nn.Conv2d(channels, 1, 1))


def norm_groups(channels: int, positions: int) -> int:
    """32 groups as released where each has 16 values at least, else fewer.

    Of one value per group a normalisation would leave a constant: a head that learns nothing.
    """
    groups = math.gcd(32, channels)
    while groups > 1 and channels // groups * positions < MIN_GROUP:
        groups //= 2
    return groups


def logits_of(head: torch.nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    """Logits (B, 1) of maps (B, C, h, w), of videos (B, C, f, h, w) frame by frame, or of (B, C).

    Where several logits are left, of frames or of large maps, their mean is taken (our choice).
    """
    maps = hidden.transpose(1, 2).flatten(0, 1) if hidden.ndim == 5 else hidden
    logits: torch.Tensor = head(maps)
    return logits.reshape(len(hidden), -1).mean(1, keepdim=True)
