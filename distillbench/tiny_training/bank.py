"""A bank of encoded pictures with the tokens of their captions, from which denoisers learn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from distillbench.tiny_training.text import tokens
from distillbench.tiny_training.vae import to_tensor
from distillbench.world.data import training_batch

__all__ = ["BATCH", "SEED", "SHARDS", "Bank", "Images", "Maker", "pictures", "rows_of"]

BATCH: Final = 64
SHARDS: Final = 16
SHARD = 16384
PART = 256
SEED: Final = 10
Rows = NDArray[np.int64]
Images = NDArray[np.uint8]
Maker = Callable[[int], tuple[Tensor, Sequence[str]]]
"""Number of a part -> the latents of PART pictures or clips of the training stream, captions."""


@dataclass(frozen=True)
class Bank:
    """N encoded pictures or clips.

    Attributes:
        latents: (N, *shape) float16, scaled as the denoiser takes them.
        ids: (N, 24) token ids, uint8.
    """

    latents: Tensor
    ids: Tensor

    @classmethod
    def of(
        cls, folder: Path, make: Maker, tokenizer: PreTrainedTokenizerFast, *, steps: int,
        device: str, shards: int = SHARDS, batch: int = BATCH,
    ) -> Bank:  # fmt: skip
        """The bank for a training of `steps` steps: at most `shards` of 16,384 pictures each.

        Shards that lie in the folder are used again.
        """
        count = min(shards, -(-steps * batch // SHARD))
        parts = [_shard(folder, i, make, tokenizer) for i in range(count)]
        latents, ids = (torch.cat([p[k] for p in parts]) for k in ("latents", "ids"))
        return cls(latents.to(device), ids.to(device))


@torch.no_grad()
def _shard(
    folder: Path, shard: int, make: Maker, tokenizer: PreTrainedTokenizerFast
) -> dict[str, Tensor]:
    path = folder / f"{shard:03d}.safetensors"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        latents, ids = [], []
        for part in range(SHARD // PART):
            made, captions = make(shard * (SHARD // PART) + part)
            latents.append(made.half().cpu().contiguous())
            ids.append(tokens(tokenizer, captions).to(torch.uint8))
        partial = path.with_suffix(".tmp")
        save_file({"latents": torch.cat(latents), "ids": torch.cat(ids)}, str(partial))
        partial.replace(path)
    loaded: dict[str, Tensor] = load_file(path)
    return loaded


def pictures(pipe: Any) -> Maker:
    """Encoded pictures of the training stream."""
    vae = pipe.vae

    def make(part: int) -> tuple[Tensor, Sequence[str]]:
        images, captions = training_batch(SEED, part, PART)
        mean = vae.encode(to_tensor(images, str(vae.device))).latent_dist.mean
        return mean * vae.config.scaling_factor, captions

    return make


def rows_of(seed: int, step: int, count: int, batch: int = BATCH) -> Rows:
    """Rows of the bank for one step: each pass over the bank is in a new random order."""
    turn, at = divmod(step * batch, count)
    return _order(seed, turn, count)[at : at + batch]


@lru_cache(maxsize=1)
def _order(seed: int, turn: int, count: int) -> Rows:
    return np.random.default_rng((seed, turn)).permutation(count)
