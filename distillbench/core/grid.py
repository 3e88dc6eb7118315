"""Grids of times: the solver grid of consistency methods, segment edges, re-noising ranges.

Indices and times are integer tensors of shape (B,); lists of nodes are plain tuples, first to last.
`final` is where the trajectory ends, `NoiseProcess.final`: 0, or CLEAN (-1) for schedules with a
clean end; since a grid's first time is stride - 1, clamping at either works alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from distillbench.core.lazy import torch

__all__ = [
    "gamma_end", "grid_stride", "grid_time", "lower_bounds", "previous_time",
    "segment_start", "tau_ranges", "uniform_int",
]  # fmt: skip


def grid_stride(steps: int, num_timesteps: int = 1000) -> int:
    """k = T / N of a solver grid of N steps.

    Raises:
        ValueError: N does not divide T, which would leave the noisiest time out of the grid.
    """
    if num_timesteps % steps:
        raise ValueError(f"{steps} solver steps do not divide {num_timesteps} timesteps")
    return num_timesteps // steps


def grid_time(index: torch.Tensor, stride: int) -> torch.Tensor:
    """g_j = k (j + 1) - 1: 19, 39, .., 999 for 50 solver steps."""
    return stride * (index + 1) - 1


def previous_time(t: torch.Tensor, stride: int, final: int = 0) -> torch.Tensor:
    """The grid time before t, max(t - k, final): 0, 19, .., 979 for 50 solver steps."""
    return (t - stride).clamp(min=final)


def segment_start(index: torch.Tensor, steps: int, segments: int) -> torch.Tensor:
    """Grid index b(j) of the lower edge of j's segment: the largest floor(i N / k_seg) <= j.

    TSCD (Hyper-SD, arXiv 2404.13686) and PCM (arXiv 2405.18407) with edges on the solver grid; the
    edge's time is `previous_time(grid_time(b))`. One segment gives TCD: b = 0.
    """
    piece = ((index + 1) * segments - 1) // steps
    return piece * steps // segments


def uniform_int(u: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Integers uniform on [low, high) per sample, from u uniform on [0, 1).

    TCD draws its end as index uniform_int(u, segment_start(j), j + 1), both ends included.
    """
    # float64: a float32 product may round up to `high`.
    return low + (u.double() * (high - low)).floor().long()


def gamma_end(next_time: torch.Tensor, gamma: float) -> torch.Tensor:
    """s = (1 - gamma) p, the end of TCD's deterministic part before noise leads back to p.

    Strategic stochastic sampling (arXiv 2402.19159, alg. 4): 0 is the deterministic sampler, 1
    re-noises from the data end. Integer times are floored after a float32 product, as diffusers'
    TCDScheduler does; real-valued times of flow models are not. Times at the end stay there.
    """
    scaled = (1 - gamma) * next_time
    if not next_time.is_floating_point():
        scaled = scaled.floor().to(next_time.dtype)
    return torch.where(next_time > 0, scaled, next_time)


def lower_bounds(nodes: Sequence[int], *, exact: bool = False) -> tuple[int, ...]:
    """m_i, the lower time of each node's segment, in node order (TDM, arXiv 2503.06674).

    One above the next node, 0 after the last: 750, 500, 250, 0 for 999, 749, 499, 249, as the
    released code has it. `exact` (flow models, whose times are real) takes the next node itself.
    """
    return (*(node + (0 if exact else 1) for node in nodes[1:]), 0)


def tau_ranges(
    nodes: Sequence[int],
    mode: Literal["disjoint", "terminal"],
    *,
    exact: bool = False,
    lowest: int = 20,
    guard: int = 10,
) -> tuple[tuple[int, int], ...]:
    """Half-open ranges [lo, hi) of the re-noising time of each node's segment, in node order.

    lo = max(lowest, m_i). "disjoint" ends each range at its own node, hi = u_i - guard, so that one
    fake score can tell the segments apart by time alone; "terminal" ends all at T - guard.

    Raises:
        ValueError: a range is empty, because there are too many nodes.
    """
    total = nodes[0] if exact else nodes[0] + 1
    tops = nodes if mode == "disjoint" else [total] * len(nodes)
    lows = [max(lowest, m) for m in lower_bounds(nodes, exact=exact)]
    ranges = tuple((low, top - guard) for low, top in zip(lows, tops, strict=True))
    if any(low >= high for low, high in ranges):
        raise ValueError(f"{len(nodes)} segments leave an empty re-noising range: {ranges}")
    return ranges
