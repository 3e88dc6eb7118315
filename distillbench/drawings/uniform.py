"""Random numbers by (seed, index, slot) alone: stateless hashes, the same on every platform."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from distillbench.drawings.shapes import Map

__all__ = ["splitmix", "uniforms"]


def splitmix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The splitmix64 finaliser: a stateless 64-bit hash."""
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def uniforms(seed: int, index: NDArray[np.int64], count: int, *, stream: int = 0) -> Map:
    """(N, count) uniforms in [0, 1) that depend on (seed, index, slot, stream) alone."""
    with np.errstate(over="ignore"):
        key = splitmix(index.astype(np.uint64) + splitmix(np.array([seed], np.uint64)))
        slot = splitmix(np.arange(count, dtype=np.uint64) + np.uint64(stream << 32))
    hashed = splitmix(key[:, None] ^ slot[None])
    out: Map = (hashed >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)
    return out
