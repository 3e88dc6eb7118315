"""DMD2's small discriminator heads on the bottleneck of a denoising network."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from distillbench.core.lazy import torch

if TYPE_CHECKING:
    from distillbench.api.backbone import Backbone, Cond

__all__ = ["blank", "build_head", "head_of", "logits_of", "map_head", "norm_groups", "vector_head"]

MIN_GROUP = 16


def blank(backbone: Backbone) -> tuple[torch.Tensor, torch.Tensor, Cond]:
    """(x, t, cond) of one sample, to ask a network for the size of its features."""
    null = backbone.encode_null()
    device = next(iter(null.tensors.values())).device
    x = torch.zeros(1, *backbone.latent_shape, device=device)
    return x, torch.zeros(1, dtype=torch.long, device=device), null


def build_head(backbone: Backbone) -> torch.nn.Module:
    """A head for what the backbone offers as "mid": maps, or vectors (B, C)."""
    with torch.no_grad():
        (hidden,) = backbone.features(None, *blank(backbone), ["mid"])
    return head_of(hidden)


def head_of(hidden: torch.Tensor) -> torch.nn.Module:
    """A head for activations like these: maps, of videos too, or vectors (B, C)."""
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
