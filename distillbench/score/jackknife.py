"""Standard errors of statistics that are no mean over samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distillbench.core.lazy import torch

__all__ = ["block_stderr", "leave_out", "whole_set"]

LEAST = 2


def leave_out(statistic: Callable[[torch.Tensor], float], n: int, blocks: int) -> list[float]:
    """The statistic without one of `blocks` interleaved blocks of 0..n-1 at a time.

    Unlike a bootstrap it never repeats a sample, which would raise a Frechet distance. Block i
    holds the samples i, i + blocks, ...: those of the same prompts and noise in every set of one
    grid, so that differences of two sets are paired. Empty where a block has fewer than 2 samples.

    Args:
        statistic: takes the (m,) indices that stay.
        n: samples.
        blocks: 0 for none.
    """
    if not blocks or n < LEAST * blocks:
        return []
    index = torch.arange(n)
    return [statistic(index[index % blocks != block]) for block in range(blocks)]


def block_stderr(left_out: Sequence[float]) -> float:
    """sqrt((g - 1) / g sum_i (s_i - mean s)^2) of the g values of `leave_out`."""
    g = len(left_out)
    mean = math.fsum(left_out) / g
    return math.sqrt((g - 1) / g * math.fsum((v - mean) ** 2 for v in left_out))


def whole_set(left_out: Mapping[str, Sequence[float]] | Sequence[float]) -> dict[str, Any]:
    """`stderr` and `blocks` of `Scores`, from values by column or those of the own column."""
    columns = left_out if isinstance(left_out, Mapping) else {"": left_out}
    blocks = {name: list(values) for name, values in columns.items() if values}
    return {"stderr": {name: block_stderr(v) for name, v in blocks.items()}, "blocks": blocks}
