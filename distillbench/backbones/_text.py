"""Text encodings kept: in memory, and on disk where an encoder is as large as the denoiser."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from distillbench.backbones._source import cache_root
from distillbench.backbones.base import Cond

__all__ = ["TextCache"]

MEMORY_BYTES = 1 << 30
Encode = Callable[[Sequence[str]], Cond]


class TextCache:
    """Encodes each prompt alone and only once.

    Alone, because the last bits of an encoding depend on the batch it is made in, and a resumed
    run must see the same bits whatever was encoded before.

    Args:
        encode: the encoder, float32 conditions.
        identity: what decides its answer (revision, dtype); names the folder on disk.
        device: where conditions are put.
    """

    def __init__(self, encode: Encode, identity: str, device: str) -> None:
        self._encode, self._device = encode, device
        self._rows: dict[str, Cond] = {}
        self._bytes = 0
        named = hashlib.sha256(identity.encode()).hexdigest()[:20]
        self._folder = cache_root() / "text" / named

    def __call__(self, prompts: Sequence[str]) -> Cond:
        """Conditions of prompts, batch first."""
        return Cond.cat([self._row(p) for p in prompts]).to(self._device)

    def _row(self, prompt: str) -> Cond:
        if prompt in self._rows:
            return self._rows[prompt]
        path = self._folder / f"{hashlib.sha256(prompt.encode()).hexdigest()}.safetensors"
        row = Cond(load_file(path)) if path.is_file() else self._make(prompt, path)
        size = sum(v.nbytes for v in row.tensors.values())
        if self._bytes + size <= MEMORY_BYTES:
            self._rows[prompt] = row
            self._bytes += size
        return row

    def _make(self, prompt: str, path: Path) -> Cond:
        with torch.no_grad():
            row = self._encode([prompt]).to("cpu")
        path.parent.mkdir(parents=True, exist_ok=True)
        building = path.with_suffix(f".{os.getpid()}.tmp")
        save_file({n: v.contiguous() for n, v in row.tensors.items()}, building)
        building.replace(path)
        return row
