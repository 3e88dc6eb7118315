"""Lists of sampling times, first to last, in plain integers; no torch."""

from __future__ import annotations

import math

__all__ = ["lcm_grid", "shifted_nodes", "tdm_nodes", "trailing"]


def trailing(steps: int, num_timesteps: int = 1000) -> tuple[int, ...]:
    """DDIM's "trailing" spacing (arXiv 2305.08891): 999, 749, 499, 249 for 4 steps."""
    # numpy's arange, which diffusers rounds, takes its step from its first two entries; ties such
    # as 937.5 fall as they do there only when the step is as inexact as that.
    step = (num_timesteps - num_timesteps / steps) - num_timesteps
    return tuple(round(num_timesteps + i * step) - 1 for i in range(steps))


def lcm_grid(steps: int, grid: int = 50, num_timesteps: int = 1000) -> tuple[int, ...]:
    """Times of the LCM and TCD schedulers: 999, 759, 499, 259 for 4 steps on a 50-step solver grid.

    Entries floor(i grid / steps) of the solver grid read backwards, so spacing is uneven where
    `steps` does not divide `grid`; a grid of 40 gives 999, 749, 499, 249.

    Raises:
        ValueError: more steps than the grid has.
    """
    if steps > grid:
        raise ValueError(f"{steps} steps do not fit a solver grid of {grid}")
    stride = num_timesteps // grid
    return tuple(stride * (grid - _floor(i, grid, steps)) - 1 for i in range(steps))


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
