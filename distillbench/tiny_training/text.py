"""tiny-sd's tokenizer and text tower: a small CLIPTextModel taught to read captions, then frozen.

The tower is trained to tell every attribute of the scene from its last token, and every word
from that word's own token, so that cross-attention finds the attributes linearly separable.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

from distillbench.tiny_training.loop import Job, fit
from distillbench.world.captions import MAX_WORDS, VOCABULARY
from distillbench.world.data import draws
from distillbench.world.scene import COLUMNS, LEVELS, Codes

WIDTH = 64
STEPS = 3000
BATCH = 128
_SPECIAL = ("<pad>", "<bos>", "<unk>", "<eos>")
# One question a column of codes; its last class is "unsaid", or "not there" of a picture.
_LEVELS = tuple(len(LEVELS[column.rstrip("2")]) + 1 for column in COLUMNS)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer over the world's vocabulary, `<bos> words <eos>` padded to 24."""
    words = {word: i for i, word in enumerate((*_SPECIAL, *VOCABULARY))}
    core = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 1), ("<eos>", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_max_length=MAX_WORDS,
        pad_token="<pad>",
        bos_token="<bos>",
        unk_token="<unk>",
        eos_token="<eos>",
    )


def build_tower(vocabulary: int = len(_SPECIAL) + len(VOCABULARY)) -> CLIPTextModel:
    """The untrained text tower: two layers of width 64."""
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_WORDS,
        projection_dim=WIDTH,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=3,
    )
    return CLIPTextModel(config)


def tokens(tokenizer: PreTrainedTokenizerFast, captions: Sequence[str]) -> Tensor:
    """(N, 24) token ids, padded as the pipeline pads them."""
    ids = tokenizer(list(captions), padding="max_length", truncation=True, max_length=MAX_WORDS)
    return torch.tensor(ids["input_ids"])


def scene_levels() -> tuple[int, ...]:
    """The number of classes of each of the ten questions of `targets`."""
    return _LEVELS


def targets(codes: Codes) -> Tensor:
    """(N, 10) classes of what captions say or pictures show, one column a question."""
    return torch.from_numpy(np.where(codes < 0, np.array(_LEVELS) - 1, codes))


class _Reader(nn.Module):
    """The tower with the two throw-away heads that teach it."""

    def __init__(self, tower: CLIPTextModel) -> None:
        super().__init__()
        self.tower = tower
        self.scene = nn.Linear(WIDTH, sum(_LEVELS))
        self.word = nn.Linear(WIDTH, tower.config.vocab_size)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 24) ids -> scene logits (N, sum of levels), word logits (N, 24, vocabulary)."""
        out = self.tower(ids)
        return self.scene(out.pooler_output), self.word(out.last_hidden_state)


def train(
    out: Path, *, steps: int = STEPS, seed: int = 0, device: str = "cpu"
) -> tuple[CLIPTextModel, PreTrainedTokenizerFast, dict[str, float]]:
    """Train the tower; also returns the share of held-out captions it reads wholly right."""
    torch.manual_seed(seed)
    tokenizer = build_tokenizer()
    reader = _Reader(build_tower()).to(device)
    job = Job(name="text", out=out, steps=steps, lr=2e-3, seed=seed, device=device)

    def loss_of(step: int, generator: torch.Generator) -> Tensor:
        drawn = draws(seed + 2, np.arange(step * BATCH, (step + 1) * BATCH))
        ids = tokens(tokenizer, drawn.captions()).to(device)
        scene, word = reader(ids)
        answers = targets(drawn.said).to(device)
        parts = torch.split(scene, list(_LEVELS), dim=1)
        asked = torch.stack([F.cross_entropy(p, a) for p, a in zip(parts, answers.T, strict=True)])
        spoken = F.cross_entropy(word.flatten(0, 1), ids.flatten())
        return asked.mean() + 0.2 * spoken

    fit(job, reader, loss_of)
    return reader.tower, tokenizer, _quality(reader, tokenizer, device)


@torch.no_grad()
def _quality(
    reader: _Reader, tokenizer: PreTrainedTokenizerFast, device: str, count: int = 2000
) -> dict[str, float]:
    drawn = draws(3, np.arange(count), held=True)
    scene, _ = reader(tokens(tokenizer, drawn.captions()).to(device))
    parts = torch.split(scene.cpu(), list(_LEVELS), dim=1)
    right = torch.stack([p.argmax(1) for p in parts], 1) == targets(drawn.said)
    return {"captions_read_right": float(right.all(1).float().mean()), "n": float(count)}
