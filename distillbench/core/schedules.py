"""Lists of times in plain numbers; no torch. Sampling times fall, solver grids rise."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = [
    "flow_grid", "lcm_times", "linspace", "shifted_nodes", "solver_grid", "tdm_nodes", "trailing",
]  # fmt: skip


def trailing(steps: int, num_timesteps: int = 1000) -> tuple[int, ...]:
    """DDIM's "trailing" spacing (arXiv 2305.08891): 999, 749, 499, 249 for 4 steps."""
    # numpy's arange, which diffusers rounds, takes its step from its first two entries; ties such
    # as 937.5 fall as they do there only when the step is as inexact as that.
    step = (num_timesteps - num_timesteps / steps) - num_timesteps
    return tuple(round(num_timesteps + i * step) - 1 for i in range(steps))


def linspace(steps: int, num_timesteps: int = 1000) -> tuple[int, ...]:
    """The "linspace" spacing of diffusers' solvers: 999, 749, 500, 250 for 4 steps."""
    step = (num_timesteps - 1) / steps
    return tuple(round(step * i) for i in range(steps, 0, -1))


def solver_grid(steps: int, num_timesteps: int = 1000) -> tuple[int, ...]:
    """g_j = k j - 1, j = 1..N, of a grid of N solver steps of k = T / N integer times each.

    19, 39, .., 999 for 50 steps.

    Raises:
        ValueError: N does not divide T, which would leave the noisiest time out of the grid.
    """
    if num_timesteps % steps:
        raise ValueError(f"{steps} solver steps do not divide {num_timesteps} timesteps")
    stride = num_timesteps // steps
    return tuple(stride * j - 1 for j in range(1, steps + 1))


def flow_grid(steps: int, shift: float = 1.0, num_timesteps: int = 1000) -> tuple[float, ...]:
    """g_j = T S(j / N), j = 1..N: the real times of N solver steps of a flow model.

    S(u) = g u / (1 + (g - 1) u) is the time shift (arXiv 2403.03206); 1000 sigma is the time, so
    that 20, 40, .., 1000 are those of 50 steps without a shift.
    """
    return tuple(
        num_timesteps * shift * j / (steps + (shift - 1.0) * j) for j in range(1, steps + 1)
    )


def lcm_times(steps: int, grid: Sequence[float] | None = None) -> tuple[float, ...]:
    """Times of the LCM and TCD schedulers: 999, 759, 499, 259 for 4 steps on a 50-step solver grid.

    Entries floor(i N / steps) of the rising grid of N times read backwards, so spacing is uneven
    where `steps` does not divide N; 40 integer times give 999, 749, 499, 249. None is the grid of
    50 integer times.

    Raises:
        ValueError: more steps than the grid has.
    """
    grid = solver_grid(50) if grid is None else grid
    size = len(grid)
    if steps > size:
        raise ValueError(f"{steps} steps do not fit a solver grid of {size}")
    return tuple(grid[size - 1 - _floor(i, size, steps)] for i in range(steps))


def tdm_nodes(steps: int, num_timesteps: int = 1000) -> tuple[int, ...]:
    """u_i = floor((i + 1) T / K) - 1, i = K-1..0 (TDM, arXiv 2503.06674)."""
    return tuple((i + 1) * num_timesteps // steps - 1 for i in reversed(range(steps)))


def shifted_nodes(
    steps: int, shift: float, num_timesteps: int = 1000, *, flow: bool = False
) -> tuple[int, ...]:
    """Nodes evenly spaced before the time shift S(u) = g u / (1 + (g - 1) u), u = i / K.

    999, 856, 665, 399 for CogVideoX (g = 2); with `flow`, times are 1000 S(u) itself: 1000, 900,
    750, 500 for Stable Diffusion 3 (g = 3).
    """

    def time(i: int) -> int:
        # The nudge keeps products such as 1000 * 0.9 from falling below their integer.
        return math.floor(num_timesteps * shift * i / (steps + (shift - 1) * i) + 1e-9)

    return tuple(time(i) - (0 if flow else 1) for i in range(steps, 0, -1))


def _floor(i: int, grid: int, steps: int) -> int:
    # numpy's linspace, which diffusers floors, multiplies by a rounded step; so do we, as
    # integer division differs where that product falls just below a whole number.
    return math.floor(i * (grid / steps))
