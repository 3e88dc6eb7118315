"""tiny-hps: tiny-clip fine-tuned on preference pairs, as HPS v2 (arXiv 2306.09341) was on CLIP.

For one caption the preferred picture is the less degraded one; the one that shows the caption
where the other shows another scene; the real one where the other is a typical picture, as from a
generator without diversity, or a sample of the teacher; and of two samples of the teacher the one
of more steps. So the score peaks at real pictures. The loss is the cross-entropy of the softmax
over the two scaled cosines; a small contrastive term keeps the model a CLIP.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distillbench.tiny_training import degrade
from distillbench.tiny_training.clip import distinct, normalise, tokenizer
from distillbench.tiny_training.loop import Job, fit
from distillbench.tiny_training.samples import Bank
from distillbench.tiny_training.text import scene_levels
from distillbench.tiny_training.vae import to_tensor
from distillbench.world.data import Draws, draws, render
from distillbench.world.scene import Codes

STEPS: Final = 2500
BATCH: Final = 48
SCALE: Final = 40.0
MISMATCHED: Final = 0.35  # the share of pairs that differ in what they show
TYPICAL: Final = 0.1  # the share whose rejected picture is a typical one
ELSEWHERE: Final = 0.2  # the share of mismatches that show a wholly other scene
Pictures = tuple[Tensor, Tensor, Draws]


def other_scenes(drawn: Draws, generator: torch.Generator) -> Draws:
    """Scenes that the captions do not allow: one said attribute differs, or everything."""
    count = len(drawn.codes)
    levels = np.array(scene_levels()) - 1
    codes, rows = drawn.codes.copy(), np.arange(count)
    lot = torch.rand(drawn.said.shape, generator=generator).numpy()
    column = np.where(drawn.said >= 0, lot, -1.0).argmax(1)
    step = torch.randint(1, 1000, (count,), generator=generator).numpy()
    shift = 1 + step % (levels[column] - 1)
    codes[rows, column] = (codes[rows, column] + shift) % levels[column]
    far = torch.rand(count, generator=generator).numpy() < ELSEWHERE
    # Another row's picture, where the caption does not happen to fit it.
    moved = np.roll(drawn.codes, 1, axis=0)
    fits = ((moved == drawn.said) | (drawn.said < 0)).all(1)
    return replace(drawn, codes=np.where((far & ~fits)[:, None], moved, codes))


def preference_pairs(
    seed: int, index: Codes, generator: torch.Generator, *, held: bool = False
) -> Pictures:
    """Preferred and rejected pictures (N, 3, 32, 32), and the scenes of the captions."""
    drawn = draws(seed, index, held=held)
    clean, more = degrade.renders(drawn, seed, index)
    kind, level = degrade.draw_levels(len(index), generator)
    # Two levels of the same harm; half of the preferred pictures are untouched.
    better = level * torch.rand(len(index), generator=generator)
    better[::2] = 0
    noise = torch.randn(clean.shape, generator=generator)
    preferred = degrade.degrade(clean, more, kind, better, noise)
    rejected = degrade.degrade(clean, more, kind, level, noise)
    lot = torch.rand(len(index), generator=generator)
    wrong = other_scenes(drawn, generator)
    spread = np.where(lot.numpy() < MISMATCHED, 1.0, 0.3 * level.numpy())
    shown = replace(drawn, codes=np.where((lot.numpy() < MISMATCHED)[:, None], wrong.codes,
                                          drawn.codes))  # fmt: skip
    other = to_tensor(render(shown, seed=seed + 7, index=index, spread=spread))
    swapped = lot < MISMATCHED + TYPICAL
    rejected[swapped] = degrade.degrade(other, more, kind, better, noise)[swapped]
    return preferred, rejected, drawn


def sample_pairs(bank: Bank, step: int, generator: torch.Generator) -> Pictures:
    """As `preference_pairs`: a real picture before a sample, a sample before one of fewer steps."""
    rows = torch.randint(0, len(bank.said), (BATCH,), generator=generator).numpy()
    drawn, real = bank.real(rows, seed=step)
    many, few = (to_tensor(pictures) for pictures in bank.pair(rows, generator))
    first = torch.rand(BATCH, generator=generator)[:, None, None, None] < 0.6
    which = torch.rand(BATCH, generator=generator)[:, None, None, None] < 0.5
    return torch.where(first, real, many), torch.where(first & which, many, few), drawn


def train(
    out: Path,
    clip: nn.Module,
    bank: Bank,
    *,
    steps: int = STEPS,
    seed: int = 0,
    device: str = "cpu",
) -> nn.Module:
    """Fine-tune a copy of tiny-clip; every second step has pairs with samples of the teacher."""
    torch.manual_seed(seed)
    model, encode = copy.deepcopy(clip).to(device), tokenizer()
    job = Job(name="hps", out=out, steps=steps, lr=1e-3, seed=seed, device=device, ema=0.998)

    def loss_of(step: int, generator: torch.Generator) -> Tensor:
        index = np.arange(step * BATCH, (step + 1) * BATCH)
        if step % 2:
            preferred, rejected, drawn = sample_pairs(bank, step, generator)
        else:
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
        a, b, drawn = preference_pairs(seed, index, generator, held=True)
        image = model.encode_image(normalise(torch.cat([a, b])), normalize=True)  # type: ignore[operator]
        text = model.encode_text(encode(drawn.captions()), normalize=True)  # type: ignore[operator]
        scores = (image.view(2, len(index), -1) * text).sum(2)
        right += float((scores[0] > scores[1]).float().mean())
    return right / batches
