"""Random numbers as a function of what they are for, never of how many were drawn before."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from distillbench.core.lazy import torch

__all__ = ["generator", "sample_noise"]


def generator(*key: int | str) -> torch.Generator:
    """A CPU generator seeded by the hash of `key`; 1 and "1" are different keys.

    torch's CPU generator keeps the low 32 bits of a seed, so two keys share a stream with a chance
    of 2^-32.
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in key)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


def sample_noise(
    seed: int, indices: Sequence[int], shape: Sequence[int], stream: str
) -> torch.Tensor:
    """Standard normal float32 (len(indices), *shape), one generator per sample.

    A row depends on (seed, its index, stream) alone, so samples do not change with the batch size,
    the number of devices or the point a run resumed at.
    """
    rows = [torch.randn(*shape, generator=generator(seed, int(i), stream)) for i in indices]
    return torch.stack(rows)
