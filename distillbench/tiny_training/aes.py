"""tiny-aes: the aesthetic head of LAION's shape (five linear layers, no activation in between).

It maps the L2-normalised picture embedding of tiny-hps to a score from 1 (ruined) to 10
(untouched), learned on graded degradations. The key names are the original file's. The embedding is
the preference scorer's because that of tiny-clip tells too little of harm: the best linear map from
it ranks grades with a correlation of .42, the best from this one with .61 (2,000 held-out renders).
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distillbench.tiny_training import degrade
from distillbench.tiny_training.clip import normalise
from distillbench.tiny_training.loop import Job, fit
from distillbench.world.data import draws
from distillbench.world.scene import Codes

WIDTHS: Final = (64, 128, 64, 32, 16, 1)
STEPS: Final = 3000
BATCH: Final = 256
COUNT: Final = 20_480  # renders, embedded once
PART: Final = 512


class Head(nn.Module):
    """Linear layers 0, 2, 4, 6, 7, so one affine map; what stands between keeps their places.

    LAION's has dropout there, which from 64 numbers costs more than it gives.
    """

    def __init__(self) -> None:
        super().__init__()
        pairs = list(pairwise(WIDTHS))
        self.layers = nn.Sequential(
            nn.Linear(*pairs[0]),
            nn.Identity(),
            nn.Linear(*pairs[1]),
            nn.Identity(),
            nn.Linear(*pairs[2]),
            nn.Identity(),
            nn.Linear(*pairs[3]),
            nn.Linear(*pairs[4]),
        )

    def forward(self, embedding: Tensor) -> Tensor:
        """(N, 64) unit vectors -> (N,) scores."""
        y: Tensor = self.layers(embedding)[:, 0]
        return y


def graded(
    base: nn.Module, seed: int, index: Codes, generator: torch.Generator, *, held: bool = False
) -> tuple[Tensor, Tensor]:
    """Unit embeddings (N, 64) of degraded renders and their scores 10 - 9 level, (N,)."""
    drawn = draws(seed, index, held=held)
    clean, more = degrade.renders(drawn, seed, index)
    kind, level = degrade.draw_levels(len(index), generator)
    noise = torch.randn(clean.shape, generator=generator)
    x = normalise(degrade.degrade(clean, more, kind, level, noise))
    with torch.no_grad():
        embedding = base.encode_image(x, normalize=True)  # type: ignore[operator]
    return embedding, 10 - 9 * level


def train(
    out: Path, base: nn.Module, *, steps: int = STEPS, seed: int = 0, device: str = "cpu"
) -> Head:
    """Train the head by regression on the embeddings of a frozen tiny-hps."""
    torch.manual_seed(seed)
    head = Head().to(device)
    job = Job(name="aes", out=out, steps=steps, lr=1e-3, seed=seed, device=device)
    embedding, score = (x.to(device) for x in _bank(base.cpu().eval(), seed + 50, steps))

    def loss_of(step: int, generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(score), (BATCH,), generator=generator).to(device)
        return F.mse_loss(head(embedding[rows]), score[rows])

    return fit(job, head, loss_of)


def _bank(base: nn.Module, seed: int, steps: int) -> tuple[Tensor, Tensor]:
    """`graded` of COUNT renders, or of fewer where a short training sees fewer."""
    generator = torch.Generator().manual_seed(seed)
    count = min(COUNT, -(-steps * BATCH // PART) * PART)
    parts = [
        graded(base, seed, np.arange(first, first + PART), generator)
        for first in range(0, count, PART)
    ]
    embedding, score = (torch.cat(column) for column in zip(*parts, strict=True))
    return embedding, score


def rank_correlation(head: Head, base: nn.Module, *, seed: int = 51, count: int = 2000) -> float:
    """Spearman's correlation of score and true grade on held-out renders."""
    generator = torch.Generator().manual_seed(seed)
    embedding, score = graded(base, seed, np.arange(count), generator, held=True)
    with torch.no_grad():
        guess = head.eval()(embedding)
    ranks = [v.argsort().argsort().double() for v in (guess, score)]
    return float(torch.corrcoef(torch.stack(ranks))[0, 1])
