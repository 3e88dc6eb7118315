"""tiny-clip: an open_clip model of 32x32 pictures and captions, trained contrastively.

It has open_clip's own byte-pair vocabulary, so it loads by the code that loads ViT-H-14. Two
throw-away heads that name the attributes help both towers to see shapes early. Half of the
pictures are degraded and the image head names how much, as web pictures also come in all
qualities: an aesthetic head can then read quality from the embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from distillbench.tiny_training import degrade
from distillbench.tiny_training.loop import Job, fit
from distillbench.tiny_training.text import scene_levels, targets
from distillbench.world.data import Draws, draws, render
from distillbench.world.scene import COLUMNS, Codes

CONFIG: Final[dict[str, Any]] = {
    "embed_dim": 64,
    "vision_cfg": {
        "image_size": 32,
        "layers": 4,
        "width": 96,
        "head_width": 16,
        "patch_size": 4,
        "mlp_ratio": 4.0,
    },
    "text_cfg": {
        "context_length": 32,
        "vocab_size": 49408,
        "width": 32,
        "heads": 2,
        "layers": 3,
    },
}
STEPS: Final = 3000
BATCH: Final = 64
MEAN: Final = open_clip.OPENAI_DATASET_MEAN
STD: Final = open_clip.OPENAI_DATASET_STD


def build() -> nn.Module:
    """The untrained model, by open_clip's own class."""
    net: nn.Module = open_clip.CLIP(
        embed_dim=CONFIG["embed_dim"],
        vision_cfg=open_clip.CLIPVisionCfg(**CONFIG["vision_cfg"]),
        text_cfg=open_clip.CLIPTextCfg(**CONFIG["text_cfg"]),
    )
    return net


def tokenizer() -> Callable[[Sequence[str]], Tensor]:
    """open_clip's byte-pair tokenizer at this model's context length."""
    bpe = open_clip.SimpleTokenizer(context_length=CONFIG["text_cfg"]["context_length"])
    return lambda captions: bpe(list(captions))


def normalise(images: NDArray[np.uint8] | Tensor, device: str = "cpu") -> Tensor:
    """uint8 (N, 32, 32, 3), or floats (N, 3, 32, 32) in [-1, 1], to CLIP's input."""
    if isinstance(images, np.ndarray):
        x = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float().div(255)
    else:
        x = images.to(device).add(1).div(2)
    mean = torch.tensor(MEAN, device=device)[:, None, None]
    return (x - mean) / torch.tensor(STD, device=device)[:, None, None]


class Pairs(nn.Module):
    """A CLIP model with the two throw-away heads on its unnormalised embeddings."""

    def __init__(self, clip: nn.Module) -> None:
        super().__init__()
        self.clip = clip
        width = int(CONFIG["embed_dim"])
        self.seen = nn.Linear(width, sum(scene_levels()) + len(degrade.KINDS))
        self.read = nn.Linear(width, sum(scene_levels()))

    def loss(
        self,
        images: Tensor,
        ids: Tensor,
        shown: Tensor,
        said: Tensor,
        unique: Tensor,
        harm: Tensor,
    ) -> Tensor:
        """Symmetric contrastive loss plus the questions to both towers.

        shown and said (N, 10) are the classes of pictures and captions; unique (N, N) is False
        where another row's caption fits the picture too; harm (N, kinds) holds the level of each
        degradation.
        """
        image, text = self.clip.encode_image(images), self.clip.encode_text(ids)  # type: ignore[operator]
        scale = self.clip.logit_scale.exp().clamp(max=100)  # type: ignore[operator]
        logits = scale * F.normalize(image, dim=1) @ F.normalize(text, dim=1).T
        logits = logits.masked_fill(~unique, -1e4)
        labels = torch.arange(len(logits), device=logits.device)
        both = F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)
        seen, harmed = self.seen(image).split([sum(scene_levels()), len(degrade.KINDS)], dim=1)
        asked = _asked(seen, shown) + _asked(self.read(text), said)
        return both / 2 + asked + 2 * F.mse_loss(harmed, harm)


def _asked(out: Tensor, answers: Tensor) -> Tensor:
    parts = torch.split(out, list(scene_levels()), dim=1)
    losses = [F.cross_entropy(p, a) for p, a in zip(parts, answers.T, strict=True)]
    return torch.stack(losses).mean()


def distinct(drawn: Draws) -> Tensor:
    """(N, N) False at (i, j), i not j, where picture i also shows what caption j says."""
    picture, caption = torch.from_numpy(drawn.codes), torch.from_numpy(drawn.said)
    fits = ((picture[:, None] == caption[None]) | (caption[None] < 0)).all(2)
    # A caption of one thing does not describe a pair that has that thing.
    second = COLUMNS.index("thing2")
    fits &= (picture[:, None, second] >= 0) == (caption[None, :, second] >= 0)
    return ~fits | torch.eye(len(picture), dtype=torch.bool)


def harmed(
    drawn: Draws, seed: int, index: Codes, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Renders, every second one degraded, and (N, kinds) the level of each degradation."""
    x, others = degrade.renders(drawn, seed, index)
    kind, level = degrade.draw_levels(len(x), generator)
    level[::2] = 0
    y = degrade.degrade(x, others, kind, level, torch.randn(x.shape, generator=generator))
    return y, F.one_hot(kind, len(degrade.KINDS)) * level[:, None]


def train(out: Path, *, steps: int = STEPS, seed: int = 0, device: str = "cpu") -> nn.Module:
    """Train tiny-clip; returns the open_clip model."""
    torch.manual_seed(seed)
    pairs, encode = Pairs(build()).to(device), tokenizer()
    job = Job(
        name="clip", out=out, steps=steps, lr=2e-3, seed=seed, device=device, ema=0.998, warmup=300
    )

    def loss_of(step: int, generator: torch.Generator) -> Tensor:
        index = np.arange(step * BATCH, (step + 1) * BATCH)
        drawn = draws(seed + 20, index)
        x, harm = harmed(drawn, seed + 20, index, generator)
        ids = encode(drawn.captions()).to(device)
        shown, said = (targets(codes).to(device) for codes in (drawn.codes, drawn.said))
        unique = distinct(drawn).to(device)
        return pairs.loss(normalise(x, device), ids, shown, said, unique, harm.to(device))

    return fit(job, pairs, loss_of).clip


@torch.no_grad()
def retrieval(clip: nn.Module, *, seed: int = 21, batches: int = 20, size: int = 64) -> float:
    """Held-out top-1: the share of pictures whose own caption ranks first among 64."""
    encode, right = tokenizer(), 0.0
    for step in range(batches):
        index = np.arange(step * size, (step + 1) * size)
        drawn = draws(seed, index, held=True)
        images = normalise(render(drawn, seed=seed, index=index))
        image = clip.encode_image(images, normalize=True)  # type: ignore[operator]
        text = clip.encode_text(encode(drawn.captions()), normalize=True)  # type: ignore[operator]
        logits = (image @ text.T).masked_fill(~distinct(drawn), -1e4)
        right += float((logits.argmax(1) == torch.arange(size)).float().mean())
    return right / batches
