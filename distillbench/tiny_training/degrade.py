"""Graded degradations of pictures: what the preference, aesthetic and feature nets learn from.

Each takes floats (N, 3, 32, 32) in [-1, 1] and a level (N,) in [0, 1]; level 0 changes nothing.
`ghost` mixes in other renders of the same caption, which is how a sampler with too few steps
fails: it returns an average over the pictures that the caption allows.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from distillbench.tiny_training.vae import to_tensor
from distillbench.world.data import Draws, render
from distillbench.world.scene import Codes

KINDS: Final = ("blur", "noise", "ghost", "fade", "pixels")


def degrade(x: Tensor, others: Tensor, kind: Tensor, level: Tensor, noise: Tensor) -> Tensor:
    """Apply degradation `kind[i]` at `level[i]` to picture i.

    others (N, K, 3, 32, 32): further renders of the same captions; noise like x, standard normal.
    """
    amount = level[:, None, None, None]
    options = (
        _blur(x, level),
        x + 0.45 * amount * noise,
        (1 - 0.75 * amount) * x + 0.75 * amount * others.mean(1),
        _fade(x, amount),
        _pixels(x, amount),
    )
    out = torch.stack(options)[kind, torch.arange(len(x))]
    return out.clamp(-1, 1)


def renders(drawn: Draws, seed: int, index: Codes, *, extra: int = 2) -> tuple[Tensor, Tensor]:
    """Pictures (N, 3, 32, 32) of the scenes, and (N, extra, 3, 32, 32) other renders of them."""
    first = to_tensor(render(drawn, seed=seed, index=index))
    more = [to_tensor(render(drawn, seed=seed + 1000 + k, index=index)) for k in range(extra)]
    return first, torch.stack(more, 1)


def draw_levels(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random kinds and levels, (count,) each; the levels are uniform."""
    kind = torch.randint(0, len(KINDS), (count,), generator=generator)
    return kind, torch.rand(count, generator=generator)


def _blur(x: Tensor, level: Tensor) -> Tensor:
    """Gaussian blur with a deviation of 0 to 2.2 pixels, each picture with its own kernel."""
    sigma = (2.2 * level).clamp_min(0.05)[:, None]
    at = torch.arange(-5, 6, dtype=x.dtype)[None]
    kernel = torch.exp(-0.5 * (at / sigma) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, 0)
    n, c, h, w = x.shape
    y = F.pad(x, (5, 5, 5, 5), mode="replicate").reshape(1, n * c, h + 10, w + 10)
    y = F.conv2d(y, kernel[:, None, :, None], groups=n * c)
    return F.conv2d(y, kernel[:, None, None, :], groups=n * c).reshape(n, c, h, w)


def _fade(x: Tensor, amount: Tensor) -> Tensor:
    """Towards grey: colour first, then contrast."""
    grey = x.mean(1, keepdim=True)
    return x + amount * (0.6 * (grey - x) + 0.35 * (x.mean((2, 3), keepdim=True) - x))


def _pixels(x: Tensor, amount: Tensor) -> Tensor:
    coarse = F.interpolate(F.avg_pool2d(x, 4), scale_factor=4.0, mode="nearest")
    return x + amount * (coarse - x)
