"""tiny-hps: tiny-clip fine-tuned on preference pairs, as HPS v2 (arXiv 2306.09341) was on CLIP.

For one caption the preferred picture is the less degraded one, or the one that shows the
caption where the other shows another scene. The loss is the cross-entropy of the softmax over
the two scaled cosines; a small contrastive term keeps the model a CLIP.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distillbench.tiny_training import degrade
from distillbench.tiny_training.clip import distinct, normalise, tokenizer
from distillbench.tiny_training.loop import Job, fit
from distillbench.world.data import Draws, draws
from distillbench.world.scene import Codes, is_heldout, single_codes

STEPS: Final = 2000
BATCH: Final = 48
SCALE: Final = 40.0
MISMATCHED: Final = 0.35  # the share of pairs that differ in what they show


def other_scenes(drawn: Draws, generator: torch.Generator, *, heldout: bool = False) -> Draws:
    """Scenes that differ from the given ones: mostly in one attribute, else wholly."""
    levels = np.array([6, 8, 2, 5, 4, 4])
    codes = single_codes(drawn.combination % int(levels.prod()))
    column = torch.randint(0, 6, (len(codes),), generator=generator).numpy()
    step = torch.randint(1, 1000, (len(codes),), generator=generator).numpy()
    rows = np.arange(len(codes))
    shift = 1 + step % (levels[column] - 1)
    codes[rows, column] = (codes[rows, column] + shift) % levels[column]
    near: Codes = np.ravel_multi_index(tuple(codes.T), tuple(levels)).astype(np.int64)
    far = np.roll(drawn.combination, 1)
    use_far = drawn.pair | (is_heldout(near, pair=False) != heldout)
    return Draws(
        np.where(use_far, np.roll(drawn.pair, 1), drawn.pair),
        np.where(use_far, far, near),
        drawn.wording,
    )


def preference_pairs(
    seed: int, index: Codes, generator: torch.Generator, *, heldout: bool = False
) -> tuple[Tensor, Tensor, Draws]:
    """Preferred and rejected pictures (N, 3, 32, 32), and the scenes of the captions."""
    drawn = draws(seed, index, heldout=heldout)
    clean, more = degrade.renders(drawn, seed, index)
    kind, level = degrade.draw_levels(len(index), generator)
    # Two levels of the same harm; half of the preferred pictures are untouched.
    better = level * torch.rand(len(index), generator=generator)
    better[::2] = 0
    noise = torch.randn(clean.shape, generator=generator)
    preferred = degrade.degrade(clean, more, kind, better, noise)
    rejected = degrade.degrade(clean, more, kind, level, noise)
    wrong = other_scenes(drawn, generator, heldout=heldout)
    wrong_clean, wrong_more = degrade.renders(wrong, seed + 7, index)
    mismatch = torch.rand(len(index), generator=generator) < MISMATCHED
    wrong_same = degrade.degrade(wrong_clean, wrong_more, kind, better, noise)
    rejected[mismatch] = wrong_same[mismatch]
    return preferred, rejected, drawn


def train(
    out: Path, clip: nn.Module, *, steps: int = STEPS, seed: int = 0, device: str = "cpu"
) -> nn.Module:
    """Fine-tune a copy of tiny-clip; returns the open_clip model."""
    torch.manual_seed(seed)
    model, encode = copy.deepcopy(clip).to(device), tokenizer()
    job = Job(name="hps", out=out, steps=steps, lr=1e-3, seed=seed, device=device, ema=0.998)

    def loss_of(step: int, generator: torch.Generator) -> Tensor:
        index = np.arange(step * BATCH, (step + 1) * BATCH)
        preferred, rejected, drawn = preference_pairs(seed + 40, index, generator)
        both = normalise(torch.cat([preferred, rejected]), device)
        image = model.encode_image(both, normalize=True)  # type: ignore[operator]
        text = model.encode_text(encode(drawn.captions()).to(device), normalize=True)  # type: ignore[operator]
        logits = SCALE * (image.view(2, len(index), -1) * text).sum(2).T
        zero = torch.zeros(len(index), dtype=torch.long, device=device)
        all_texts = SCALE * image[: len(index)] @ text.T
        all_texts = all_texts.masked_fill(~distinct(drawn).to(device), -1e4)
        rank = F.cross_entropy(all_texts, torch.arange(len(index), device=device))
        return F.cross_entropy(logits, zero) + 0.2 * rank

    return fit(job, model, loss_of)


@torch.no_grad()
def pair_accuracy(model: nn.Module, *, seed: int = 41, batches: int = 40) -> float:
    """The share of held-out pairs in which the preferred picture scores higher."""
    encode, right = tokenizer(), 0.0
    for step in range(batches):
        index = np.arange(step * BATCH, (step + 1) * BATCH)
        generator = torch.Generator().manual_seed(step)
        a, b, drawn = preference_pairs(seed, index, generator, heldout=True)
        image = model.encode_image(normalise(torch.cat([a, b])), normalize=True)  # type: ignore[operator]
        text = model.encode_text(encode(drawn.captions()), normalize=True)  # type: ignore[operator]
        scores = (image.view(2, len(index), -1) * text).sum(2)
        right += float((scores[0] > scores[1]).float().mean())
    return right / batches
