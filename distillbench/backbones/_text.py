"""Text encodings kept: in memory, and on disk where an encoder is as large as the denoiser."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import load, save

from distillbench.api.backbone import Cond
from distillbench.files.places import cache_root

__all__ = ["TextCache"]

MEMORY_BYTES = 1 << 30
Encode = Callable[[Sequence[str]], Cond]


class TextCache:
    """Encodes each prompt alone and only once.

    Alone, because the last bits of an encoding depend on the batch it is made in, and a resumed
    run must see the same bits whatever was encoded before.

    An entry on disk is a line, the sha256 over what it is of and what it holds, and a safetensors
    file. One that is damaged, or was made for another prompt or by another encoder, is made anew.

    Args:
        encode: the encoder, float32 conditions.
        identity: what decides its answer (content, settings, dtype); names the folder on disk.
        device: where it runs and where conditions are put.
    """

    def __init__(self, encode: Encode, identity: str, device: str) -> None:
        self._encode, self._device = encode, device
        self._rows: dict[str, Cond] = {}
        self._bytes = 0
        made_by = [f"{name} {version(name)}" for name in ("torch", "transformers", "diffusers")]
        kind = torch.device(device).type
        named = hashlib.sha256(" ".join([identity, kind, *made_by]).encode()).hexdigest()
        self._identity, self._folder = named, cache_root() / "text" / named[:20]

    def __call__(self, prompts: Sequence[str]) -> Cond:
        """Conditions of prompts, batch first."""
        return Cond.cat([self._row(p) for p in prompts]).to(self._device)

    def _row(self, prompt: str) -> Cond:
        if prompt in self._rows:
            return self._rows[prompt]
        path = self._folder / f"{hashlib.sha256(prompt.encode()).hexdigest()}.safetensors"
        row = self._kept(prompt, path) or self._make(prompt, path)
        size = sum(v.nbytes for v in row.tensors.values())
        if self._bytes + size <= MEMORY_BYTES:
            self._rows[prompt] = row
            self._bytes += size
        return row

    def _kept(self, prompt: str, path: Path) -> Cond | None:
        """What lies on disk, None where that is nothing or not what was written."""
        try:
            seal, _, payload = path.read_bytes().partition(b"\n")
        except OSError:
            return None
        return Cond(load(payload)) if seal == self._seal(prompt, payload) else None

    def _make(self, prompt: str, path: Path) -> Cond:
        with torch.no_grad():
            row = self._encode([prompt]).to("cpu")
        payload = save({n: v.contiguous() for n, v in row.tensors.items()})
        with suppress(OSError):  # a full or read-only disk only costs time
            path.parent.mkdir(parents=True, exist_ok=True)
            building = path.with_suffix(f".{os.getpid()}.tmp")
            building.write_bytes(self._seal(prompt, payload) + b"\n" + payload)
            building.replace(path)
        return row

    def _seal(self, prompt: str, payload: bytes) -> bytes:
        about = f"{self._identity}\n{prompt}\n".encode()
        return hashlib.sha256(about + payload).hexdigest().encode()
