"""tiny-inception: the feature net behind the tiny FID, trained on attributes and degradations.

Its 96 features separate what a picture shows (six attributes) and how it is harmed (the level
of each degradation), so that the Frechet distance sees wrong content and wrong texture.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from distillbench.tiny_training.clip import harmed
from distillbench.tiny_training.degrade import KINDS
from distillbench.tiny_training.loop import Job, fit
from distillbench.tiny_training.oracle import attribute_loss, singles
from distillbench.world.networks import AttributeNet

CONFIG: Final = {"widths": [24, 48, 64, 64], "dim": 96, "extra": len(KINDS)}
STEPS: Final = 4000
BATCH: Final = 64


def build() -> AttributeNet:
    """The untrained feature net."""
    return AttributeNet(widths=(24, 48, 64, 64), dim=96, extra=len(KINDS))


def train(out: Path, *, steps: int = STEPS, seed: int = 0, device: str = "cpu") -> AttributeNet:
    """Train the feature net on renders, every second one degraded."""
    torch.manual_seed(seed + 60)
    net = build().to(device).to(memory_format=torch.channels_last)
    job = Job(name="inception", out=out, steps=steps, lr=3e-3, seed=seed, device=device, ema=0.99)

    def loss_of(step: int, generator: torch.Generator) -> Tensor:
        drawn, index = singles(seed + 60, step, BATCH)
        x, harm = harmed(drawn, seed + 60, index, generator)
        out = net(x.to(device, memory_format=torch.channels_last))
        content = attribute_loss(out, drawn.codes)
        return content + 2 * F.mse_loss(out[:, -len(KINDS) :], harm.to(device))

    return fit(job, net, loss_of)


@torch.no_grad()
def frechet(a: Tensor, b: Tensor) -> float:
    """The Frechet distance of two feature sets (N, d), covariances with N - 1, in float64.

    |mu_a - mu_b|^2 + Tr(S_a + S_b - 2 (S_a^1/2 S_b S_a^1/2)^1/2), arXiv 1706.08500, eq. 6.
    """
    a, b = a.double(), b.double()
    s_a, s_b = torch.cov(a.T), torch.cov(b.T)
    values, vectors = torch.linalg.eigh(s_a)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ s_b @ root).clamp_min(0).sqrt().sum()
    gap = (a.mean(0) - b.mean(0)).square().sum()
    return float(gap + s_a.trace() + s_b.trace() - 2 * cross)
