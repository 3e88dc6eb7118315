"""Graded degradations of pictures: what the preference, aesthetic and feature nets learn from.

Each takes floats (N, 3, 32, 32) in [-1, 1] and a level (N,) in [0, 1]; level 0 changes nothing.
`ghost` mixes in other pictures that the caption allows, which is how a sampler with too few steps
fails: it returns an average over them. `vivid` is how strong guidance fails (colour and contrast
beyond the real ones), `smooth` how a regression does (texture gone, edges kept).
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from distillbench.tiny_training.vae import to_tensor
from distillbench.world.data import Draws, completed, render
from distillbench.world.scene import Codes

KINDS: Final = ("blur", "noise", "ghost", "fade", "pixels", "vivid", "smooth")


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
        _vivid(x, amount),
        x + amount * (_median(_median(x)) - x),
    )
    out = torch.stack(options)[kind, torch.arange(len(x))]
    return out.clamp(-1, 1)


def renders(drawn: Draws, seed: int, index: Codes, *, extra: int = 2) -> tuple[Tensor, Tensor]:
    """Pictures (N, 3, 32, 32), and (N, extra, 3, 32, 32) others that their captions allow."""
    first = to_tensor(render(drawn, seed=seed, index=index))
    more = []
    for turn in range(seed + 1000, seed + 1000 + extra):
        other = completed(drawn.said, seed=turn, index=index)
        more.append(to_tensor(render(other, seed=turn, index=index)))
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


def _vivid(x: Tensor, amount: Tensor) -> Tensor:
    """Away from grey: colour and contrast up, as over-guided samples have them."""
    grey, mean = x.mean(1, keepdim=True), x.mean((1, 2, 3), keepdim=True)
    return x + amount * (0.9 * (x - grey) + 0.6 * (grey - mean))


def _median(x: Tensor) -> Tensor:
    """The median of each 3 x 3 neighbourhood."""
    n, c, h, w = x.shape
    parts = F.pad(x, (1, 1, 1, 1), mode="replicate").unfold(2, 3, 1).unfold(3, 3, 1)
    out: Tensor = parts.reshape(n, c, h, w, 9).median(-1).values
    return out
