"""The judge: a small CNN that names all six attributes of a picture of one thing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from distillbench.tiny_training import degrade
from distillbench.tiny_training.loop import Job, fit
from distillbench.world.data import Draws, draws
from distillbench.world.networks import AttributeNet, attribute_logits
from distillbench.world.scene import SINGLE, Codes

CONFIG = {"widths": [24, 48, 96, 96], "dim": 96, "extra": 0}
STEPS = 5000
BATCH = 64
HARM = 0.15  # the highest level of blur or noise in training


def build() -> AttributeNet:
    """The untrained judge."""
    return AttributeNet(widths=(24, 48, 96, 96), dim=96)


def singles(seed: int, step: int, size: int, *, held: bool = False) -> tuple[Draws, Codes]:
    """Scenes of one thing of a batch, and their indices."""
    index = np.arange(step * size, (step + 1) * size, dtype=np.int64)
    return draws(seed, index, pairs=0.0, held=held), index


def attribute_loss(out: Tensor, codes: Codes) -> Tensor:
    """The mean cross-entropy over the six attributes; codes (N, 10) of pictures of one thing."""
    answers = torch.from_numpy(codes[:, : len(SINGLE)]).to(out.device)
    logits = attribute_logits(out)
    return torch.stack(
        [F.cross_entropy(p, a) for p, a in zip(logits, answers.T, strict=True)]
    ).mean()


def train(out: Path, *, steps: int = STEPS, seed: int = 0, device: str = "cpu") -> AttributeNet:
    """Train the judge on lightly blurred or noised renders: small artefacts must not mislead it."""
    torch.manual_seed(seed)
    net = build().to(device).to(memory_format=torch.channels_last)
    job = Job(name="oracle", out=out, steps=steps, lr=3e-3, seed=seed, device=device, ema=0.99)

    def loss_of(step: int, generator: torch.Generator) -> Tensor:
        drawn, index = singles(seed + 4, step, BATCH)
        x, others = degrade.renders(drawn, seed + 4, index, extra=1)
        kind, level = degrade.draw_levels(len(x), generator)
        noise = torch.randn(x.shape, generator=generator)
        x = degrade.degrade(x, others, kind % 2, HARM * level, noise)
        return attribute_loss(net(x.to(device)), drawn.codes)

    return fit(job, net, loss_of)
