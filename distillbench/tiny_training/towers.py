"""Further text encoders, taught to read captions like the first: a second CLIP tower, and a T5.

The questions about the scene are asked of what a family reads as the whole caption (the projected
last token of CLIP, the mean of T5's tokens); every word is asked of its own token in the layer that
a family reads: CLIP's last but one, T5's last. T5, which reads no caption from one token, is asked
for the neighbours of every word too, or it would not learn which colour is whose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

from distillbench.tiny_training.loop import Job, fit
from distillbench.tiny_training.text import WIDTH, build_tokenizer, build_tower, targets, tokens
from distillbench.tiny_training.text import scene_levels as levels
from distillbench.world.data import PAIR_SHARE, draws
from distillbench.world.scene import COLUMNS

__all__ = ["LENGTH", "T5_WIDTH", "Tower", "build_t5", "build_wide", "projected", "train"]

T5_WIDTH: Final = 2 * WIDTH
LENGTH: Final = 20
"""Tokens of a caption that families after the first read: the longest caption has 19."""
STEPS: Final = 1600
BATCH: Final = 64


def build_wide() -> CLIPTextModelWithProjection:
    """The untrained second CLIP tower: three layers, with a projection."""
    config = CLIPTextConfig.from_dict(build_tower().config.to_dict() | {"num_hidden_layers": 3})
    return CLIPTextModelWithProjection(config)


def build_t5() -> T5EncoderModel:
    """The untrained T5 encoder: two layers, as wide as both CLIP towers together."""
    return T5EncoderModel(
        T5Config(
            vocab_size=build_tower().config.vocab_size,
            d_model=T5_WIDTH,
            d_kv=16,
            d_ff=T5_WIDTH,
            num_layers=2,
            num_heads=4,
            pad_token_id=0,
            eos_token_id=3,
        )
    )


def projected(tower: Any) -> CLIPTextModelWithProjection:
    """A CLIP tower without a projection as one whose projection changes nothing."""
    whole = CLIPTextModelWithProjection(tower.config)
    whole.text_projection.weight.data.copy_(torch.eye(WIDTH))
    own = {k.removeprefix("text_model."): v for k, v in tower.state_dict().items()}
    whole.text_model.load_state_dict(own)
    return whole.eval()


def _read_clip(tower: nn.Module, ids: Tensor, step: int) -> tuple[Tensor, Tensor]:
    out = tower(ids, output_hidden_states=True)
    return out.text_embeds, out.hidden_states[-2]


def _read_t5(tower: nn.Module, ids: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """Padding is hidden in every other step: pipelines differ in whether they hide it."""
    there = ids != 0
    states = tower(ids, attention_mask=there.long() if step % 2 else None).last_hidden_state
    shown = there[..., None].to(states.dtype)
    return (states * shown).sum(1) / shown.sum(1), states


@dataclass(frozen=True)
class Tower:
    """One text encoder: how it is built, and how captions and words are read from it.

    Attributes:
        around: which words every token is asked for, by their distance.
        pairs: share of captions of two things.
    """

    job: str
    build: Callable[[], Any]
    read: Callable[[nn.Module, Tensor, int], tuple[Tensor, Tensor]]
    width: int
    around: tuple[int, ...] = (0,)
    pairs: float = PAIR_SHARE


CLIP_2: Final = Tower("text-2", build_wide, _read_clip, WIDTH)
T5: Final = Tower("text-t5", build_t5, _read_t5, T5_WIDTH, (-2, -1, 0, 1, 2), 0.5)


class _Reader(nn.Module):
    """A tower with the two throw-away heads that teach it."""

    def __init__(self, kind: Tower) -> None:
        super().__init__()
        self.kind, self.tower = kind, kind.build()
        self.scene = nn.Linear(kind.width, sum(levels()))
        self.word = nn.Linear(kind.width, len(kind.around) * self.tower.config.vocab_size)

    def forward(self, ids: Tensor, step: int) -> tuple[list[Tensor], Tensor]:
        """(N, L) ids -> logits of each question, word logits (N, L, around * vocabulary)."""
        whole, words = self.kind.read(self.tower, ids, step)
        return list(torch.split(self.scene(whole), list(levels()), dim=1)), self.word(words)


def train(
    kind: Tower, out: Path, *, steps: int = STEPS, seed: int = 0, device: str = "cpu"
) -> tuple[Any, dict[str, float]]:
    """Train a tower; also returns the shares of held-out captions it reads wholly right."""
    torch.manual_seed(seed)
    tokenizer = build_tokenizer()
    reader = _Reader(kind).to(device)
    job = Job(name=kind.job, out=out, steps=steps, lr=2e-3, seed=seed, device=device)

    def loss_of(step: int, generator: torch.Generator) -> Tensor:
        index = np.arange(step * BATCH, (step + 1) * BATCH)
        drawn = draws(seed + 2, index, pairs=kind.pairs)
        ids = tokens(tokenizer, drawn.captions())[:, :LENGTH].to(device)
        parts, word = reader(ids, step)
        answers = targets(drawn.said).to(device)
        asked = torch.stack([F.cross_entropy(p, a) for p, a in zip(parts, answers.T, strict=True)])
        near = torch.stack([ids.roll(-distance, 1) for distance in kind.around], dim=-1)
        spoken = F.cross_entropy(word.reshape(near.numel(), -1), near.flatten())
        return asked.mean() + 0.2 * spoken

    fit(job, reader, loss_of)
    return reader.tower, _quality(reader, tokenizer, device)


@torch.no_grad()
def _quality(
    reader: _Reader, tokenizer: PreTrainedTokenizerFast, device: str, count: int = 2000
) -> dict[str, float]:
    drawn = draws(3, np.arange(count), held=True)
    ids = tokens(tokenizer, drawn.captions())[:, :LENGTH].to(device)
    right = [
        torch.stack([p.argmax(1).cpu() for p in reader(ids, step)[0]], 1) == targets(drawn.said)
        for step in (0, 1)
    ]
    pair = torch.from_numpy(drawn.said[:, COLUMNS.index("thing2")] >= 0)
    whole = torch.stack([r.all(1) for r in right]).float()
    share = {"singles": whole[:, ~pair], "pairs": whole[:, pair], "all": whole}
    worst = {f"{name}_read_right": float(w.mean(1).min()) for name, w in share.items()}
    return worst | {"n": float(count)}
