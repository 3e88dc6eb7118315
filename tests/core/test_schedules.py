"""Sampling times against the tables of the papers and the schedulers of diffusers."""

from __future__ import annotations

from itertools import pairwise

import pytest
from diffusers import DDIMScheduler, LCMScheduler, TCDScheduler

from distillbench.core.schedules import lcm_times, shifted_nodes, solver_grid, tdm_nodes, trailing

LCM_TABLE = {
    1: (999,),
    2: (999, 499),
    4: (999, 759, 499, 259),
    8: (999, 879, 759, 639, 499, 379, 259, 139),
}


@pytest.mark.parametrize("steps", LCM_TABLE)
def test_time_tables(steps: int) -> None:
    assert lcm_times(steps) == LCM_TABLE[steps]


@pytest.mark.parametrize("kind", [LCMScheduler, TCDScheduler])
@pytest.mark.parametrize("grid", [40, 50])
def test_lcm_times_are_that_of_diffusers_for_every_step_count(kind: type, grid: int) -> None:
    scheduler = kind(original_inference_steps=grid)
    for steps in range(1, grid + 1):
        scheduler.set_timesteps(steps)
        assert lcm_times(steps, solver_grid(grid)) == tuple(scheduler.timesteps.tolist()), steps


def test_26_steps_are_uneven() -> None:
    times = lcm_times(26)
    gaps = [a - b for a, b in pairwise(times)]
    assert sorted(gaps) == [20, 20] + [40] * 23
    assert (times[0], times[-1]) == (999, 39)


def test_trailing_is_that_of_diffusers() -> None:
    scheduler = DDIMScheduler(timestep_spacing="trailing")
    for steps in range(1, 101):
        scheduler.set_timesteps(steps)
        # At 61 and others rounding gives diffusers one time too many, -1.
        assert trailing(steps) == tuple(scheduler.timesteps.tolist()[:steps]), steps


def test_grid_tables() -> None:
    assert tdm_nodes(1) == (999,)
    assert tdm_nodes(2) == (999, 499)
    assert tdm_nodes(4) == (999, 749, 499, 249)
    assert tdm_nodes(4, 900) == (899, 674, 449, 224)
    assert all(len(tdm_nodes(k)) == k for k in range(1, 30))


def test_steps_that_do_not_divide_the_times_are_floored() -> None:
    assert tdm_nodes(3) == (999, 665, 332)
    assert tdm_nodes(7) == (999, 856, 713, 570, 427, 284, 141)


def test_shifted_nodes() -> None:
    assert shifted_nodes(4, 2.0) == (999, 856, 665, 399)
    assert shifted_nodes(4, 3.0, flow=True) == (1000, 900, 750, 500)
    assert shifted_nodes(4, 1.0) == tdm_nodes(4)


def test_too_many_steps_for_the_grid() -> None:
    with pytest.raises(ValueError, match="51 steps do not fit"):
        lcm_times(51)
