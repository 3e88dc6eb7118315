"""Standard errors of statistics that are no mean over samples."""

from __future__ import annotations

import math
from collections.abc import Callable

from distillbench.core.lazy import torch

__all__ = ["jackknife"]


def jackknife(statistic: Callable[[torch.Tensor], float], n: int, blocks: int) -> float:
    """Standard error by leaving out one of `blocks` interleaved blocks of 0..n-1 at a time.

    sqrt((g - 1) / g sum_i (s_i - mean s)^2) for g blocks. Unlike a bootstrap it never repeats a
    sample, which would raise a Frechet distance. `statistic` takes the (m,) indices that stay.
    """
    index = torch.arange(n)
    values = [statistic(index[index % blocks != block]) for block in range(blocks)]
    mean = math.fsum(values) / blocks
    return math.sqrt((blocks - 1) / blocks * math.fsum((v - mean) ** 2 for v in values))
