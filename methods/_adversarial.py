"""The discriminator of DMD2: a small head on the bottleneck of a denoising network."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from distillbench.core.lazy import torch
from distillbench.errors import NotSupported

if TYPE_CHECKING:
    from distillbench.backbones.base import Backbone

__all__ = ["adversarial_loss", "build_head", "discriminator_loss", "head_layers", "logits_of"]


def discriminator_loss(fake: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """softplus(D(fake)) + softplus(-D(real)) of logits (B, 1) (DMD2, arXiv 2405.14867, eq. 4)."""
    softplus = torch.nn.functional.softplus
    return softplus(fake).mean() + softplus(-real).mean()


def adversarial_loss(fake: torch.Tensor) -> torch.Tensor:
    """softplus(-D(fake)), which the student lowers."""
    return torch.nn.functional.softplus(-fake).mean()


def build_head(backbone: Backbone) -> torch.nn.Module:
    """A head for the maps that the backbone offers as "mid".

    Raises:
        NotSupported: the backbone has no features.
    """
    null = backbone.encode_null()
    device = next(iter(null.tensors.values())).device
    x = torch.zeros(1, *backbone.latent_shape, device=device)
    t = torch.zeros(1, dtype=torch.long, device=device)
    try:
        with torch.no_grad():
            (hidden,) = backbone.features(None, x, t, null, ["mid"])
    except NotImplementedError:
        raise NotSupported(
            f"a GAN needs features, which backbone {backbone.name} does not offer",
            hint="set adversarial_weight: 0",
        ) from None
    return head_layers(hidden.shape[1], (hidden.shape[-2], hidden.shape[-1]))


def head_layers(channels: int, size: tuple[int, int]) -> torch.nn.Module:
    """Halve maps of `size` until a side is below 8, then one 4 x 4 convolution to a logit.

    8 x 8 maps go 8, 4, 1 (the released SD v1.5 head), 32 x 32 ones 32, 16, 8, 4, 1 (SDXL).
    """
    nn = torch.nn
    layers: list[torch.nn.Module] = []

    def add(convolution: torch.nn.Module) -> None:
        layers.extend((convolution, nn.GroupNorm(math.gcd(32, channels), channels), nn.SiLU()))

    height, width = size
    while min(height, width) >= 8:
        add(nn.Conv2d(channels, channels, 4, stride=2, padding=1))
        height, width = height // 2, width // 2
    add(nn.Conv2d(channels, channels, (min(4, height), min(4, width)), stride=4))
    return nn.Sequential(*layers, nn.Conv2d(channels, 1, 1))


def logits_of(head: torch.nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    """Logits (B, 1) of maps (B, C, h, w), or of videos (B, C, f, h, w) frame by frame.

    Where several logits are left, of frames or of large maps, their mean is taken (our choice).
    """
    maps = hidden.transpose(1, 2).flatten(0, 1) if hidden.ndim == 5 else hidden
    logits: torch.Tensor = head(maps)
    return logits.reshape(len(hidden), -1).mean(1, keepdim=True)
