"""Grids of times: the solver grid of consistency methods, segment edges, re-noising ranges.

Indices are integer tensors of shape (B,), times integers of diffusion and reals of flow models;
lists of nodes are plain tuples, first to last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from distillbench.core.lazy import torch

__all__ = [
    "SolverGrid", "gamma_end", "lower_bounds", "segment_start", "tau_ranges", "uniform_int",
    "uniform_time",
]  # fmt: skip


@dataclass(frozen=True)
class SolverGrid:
    """The times g_0 < g_1 < .. < g_N between which a teacher's solver steps, N steps in all.

    Step j leads from g_{j+1} to g_j. g_0 is where trajectories end, `NoiseProcess.final`.

    Attributes:
        times: N + 1 integers, or reals of a flow model.
    """

    times: tuple[float, ...]

    def at(self, index: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """g_index, (B,): integers, or reals in the precision of `like` (float64 or float32)."""
        if all(isinstance(t, int) for t in self.times):
            return torch.tensor(self.times, device=index.device)[index]
        double = like.dtype == torch.float64
        dtype = torch.float64 if double else torch.float32
        return torch.tensor(self.times, dtype=dtype, device=index.device)[index]

    def step(self, index: torch.Tensor, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(t, u), start and end of the solver steps `index`."""
        return self.at(index + 1, like), self.at(index, like)


def segment_start(index: torch.Tensor, steps: int, segments: int) -> torch.Tensor:
    """Grid index b(j) of the lower edge of step j's segment: the largest floor(i N / k_seg) <= j.

    TSCD (Hyper-SD, arXiv 2404.13686) and PCM (arXiv 2405.18407) with edges on the solver grid; the
    edge's time is g_b. One segment gives TCD: b = 0.
    """
    piece = ((index + 1) * segments - 1) // steps
    return piece * steps // segments


def uniform_int(u: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Integers uniform on [low, high) per sample, from u uniform on [0, 1).

    TCD draws its end as index uniform_int(u, segment_start(j), j + 1), both ends included.
    """
    # float64: a float32 product may round up to `high`.
    return low + (u.double() * (high - low)).floor().long()


def uniform_time(u: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Times uniform on [low, high] per sample, integers or reals as the bounds are."""
    if high.is_floating_point():
        return low + u.to(high.dtype) * (high - low)
    return uniform_int(u, low, high + 1)


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
