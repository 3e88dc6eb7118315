"""Which stock scheduler a recipe gets, and how it is told the times."""

from __future__ import annotations

from typing import Any

import pytest

from distillbench.api.samplers import from_recipe
from distillbench.backbones._diffusers import process_of
from distillbench.core.process import NoiseProcess
from distillbench.core.schedules import (
    flow_grid,
    lcm_times,
    shifted_nodes,
    tdm_nodes,
    trailing,
)
from distillbench.student.schedulers import PROCESS, follow
from distillbench.student.trial import TrialTeacher, distance

SD: dict[str, Any] = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012,
                      "beta_schedule": "scaled_linear", "set_alpha_to_one": False}  # fmt: skip
COG = {**SD, "snr_shift_scale": 3.0, "rescale_betas_zero_snr": True, "set_alpha_to_one": True}
KINDS: dict[str, dict[str, Any]] = {
    "ddim": {"kind": "ode", "solver": "ddim"},
    "clean": {"kind": "ode", "solver": "ddim", "end": "clean"},
    "euler": {"kind": "ode", "solver": "euler"},
    "2m": {"kind": "ode", "solver": "dpmsolver++"},
    "2s": {"kind": "ode", "solver": "dpmsolver++2s"},
    "renoise": {"kind": "renoise"},
    "boundary": {"kind": "renoise", "boundary": True},
    "gamma": {"kind": "gamma", "gamma": 0.3},
}  # fmt: skip


def teacher(config: dict[str, Any], prediction: str = "epsilon") -> TrialTeacher:
    return TrialTeacher(process_of(config), prediction, config)


def flow(shift: float) -> TrialTeacher:
    config = {"num_train_timesteps": 1000, "shift": shift}
    return TrialTeacher(NoiseProcess.flow(1000), "flow", config)


@pytest.mark.parametrize("end", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spacing", [trailing, lcm_times, tdm_nodes])
def test_any_times_are_followed_to_the_end(kind: str, spacing: Any, end: bool) -> None:
    for steps in (1, 2, 3, 4, 6, 8):
        sampler = from_recipe({**KINDS[kind], "timesteps": spacing(steps)})
        for prediction in ("epsilon", "v_prediction", "sample"):
            found = follow(sampler, teacher({**SD, "set_alpha_to_one": end}, prediction))
            assert not found.limits, (steps, prediction)


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"2m", "2s"}))
def test_a_shifted_schedule_without_terminal_signal_is_followed(kind: str) -> None:
    for times in (trailing(4), shifted_nodes(4, 2.0), lcm_times(8)):
        sampler = from_recipe({**KINDS[kind], "timesteps": times})
        assert not follow(sampler, teacher(COG, "v_prediction")).limits, times


@pytest.mark.parametrize("shift", [1.0, 1.5, 3.0, 6.0, 12.0])
def test_a_flow_scheduler_makes_the_times_from_their_number(shift: float) -> None:
    """At the steps whose times are whole numbers; at others, the sigmas are in the call."""
    by_number = 0
    for steps in (1, 2, 3, 4, 5, 8):
        times = shifted_nodes(steps, shift, flow=True)
        found = follow(from_recipe({"kind": "ode", "timesteps": times}), flow(shift))
        assert not found.limits
        by_number += "num_inference_steps" in found.times
        for told in (found.times, {"sigmas": found.sigmas}):
            found.scheduler.set_timesteps(**told)
            assert found.scheduler.timesteps.tolist() == pytest.approx(times, abs=0.01)
    assert by_number >= 3


def test_uneven_flow_times_are_sigmas_of_the_call() -> None:
    found = follow(from_recipe({"kind": "renoise", "timesteps": (990, 500, 20)}), flow(3.0))
    assert list(found.times) == ["sigmas"]
    assert not found.limits


CONSISTENT: dict[str, tuple[dict[str, Any], str]] = {
    "LCM": ({"kind": "renoise", "boundary": True}, "FlowMatchLCMScheduler"),
    "TCD, gamma 1": ({"kind": "gamma", "gamma": 1.0}, "FlowMatchLCMScheduler"),
    "TCD, gamma 0": ({"kind": "gamma", "gamma": 0.0}, "FlowMatchEulerDiscreteScheduler"),
    "TSCD": ({"kind": "ode"}, "FlowMatchEulerDiscreteScheduler"),
}


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("kind", CONSISTENT)
def test_consistency_students_of_flow_have_stock_schedulers(kind: str, shift: float) -> None:
    """On real times of 40, 50 and 7 solver steps; LCM's c_skip, which they lack, is 1e-5 there."""
    recipe, name = CONSISTENT[kind]
    for grid, steps in ((40, 1), (40, 4), (50, 2), (50, 4), (50, 8), (7, 3)):
        sampler = from_recipe({**recipe, "timesteps": lcm_times(steps, flow_grid(grid, shift))})
        found = follow(sampler, flow(shift))
        assert not found.limits, (grid, steps)
        assert steps == 1 or type(found.scheduler).__name__ == name
        assert distance(found.scheduler, found.times, sampler, flow(shift)) < 2e-5, (grid, steps)


def test_no_scheduler_goes_below_a_flow_time_and_back() -> None:
    """TCD's gamma between 0 and 1 is sampled here alone."""
    times = lcm_times(4, flow_grid(50, 3.0))
    found = follow(from_recipe({"kind": "gamma", "gamma": 0.3, "timesteps": times}), flow(3.0))
    (reason,) = found.limits.values()
    assert reason.startswith("no scheduler of diffusers takes these steps")


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        ({"kind": "ode", "timesteps": trailing(4)}, "num_inference_steps"),
        ({"kind": "ode", "timesteps": (999, 749, 500, 250)}, "num_inference_steps"),
        ({"kind": "ode", "timesteps": (999, 856, 665, 399)}, "timesteps"),
        ({"kind": "renoise", "timesteps": lcm_times(4)}, "num_inference_steps"),
        ({"kind": "renoise", "timesteps": trailing(4)}, "num_inference_steps"),
        ({"kind": "gamma", "timesteps": (800, 300)}, "timesteps"),
    ],
)
def test_times_are_told_by_their_number_where_the_scheduler_can(
    recipe: dict[str, Any], told: str
) -> None:
    assert list(follow(from_recipe(recipe), teacher(SD)).times) == [told]


def test_nothing_of_the_teachers_sampler_is_copied() -> None:
    """Whatever a scheduler file holds beside the process, the built one is the same."""
    noise = {
        "clip_sample": True, "clip_sample_range": 0.2, "thresholding": True, "steps_offset": 1,
        "use_karras_sigmas": True, "use_exponential_sigmas": True, "algorithm_type": "dpmsolver",
        "solver_order": 3, "solver_type": "heun", "timestep_spacing": "linspace",
        "final_sigmas_type": "sigma_min", "euler_at_final": True, "timestep_scaling": 3.0,
        "original_inference_steps": 7, "sigma_max": 3.0, "lambda_min_clipped": -5.1,
        "interpolation_type": "log_linear", "variance_type": "learned", "skip_prk_steps": True,
    }  # fmt: skip
    assert not noise.keys() & set(PROCESS)
    for recipe in KINDS.values():
        sampler = from_recipe({**recipe, "timesteps": trailing(4)})
        plain = follow(sampler, teacher(SD))
        leaky = follow(sampler, TrialTeacher(process_of(SD), "epsilon", {**SD, **noise}))
        assert dict(leaky.scheduler.config) == dict(plain.scheduler.config)
        assert leaky.times == plain.times


def test_what_none_follows_is_named_with_the_reason() -> None:
    second = from_recipe({"kind": "gamma", "order": 2, "timesteps": trailing(2)})
    assert follow(second, teacher(SD)).limits == {
        "sampler.order": "no scheduler of diffusers evaluates the network twice a step"
    }
    assert list(follow(second, flow(3.0)).limits) == ["sampler.order"]
    four = {"kind": "ode", "solver": "dpmsolver++", "timesteps": (1000, 750, 500, 250)}
    third = from_recipe(four)
    (reason,) = follow(third, flow(3.0)).limits.values()
    assert reason.endswith("FlowMatchEulerDiscreteScheduler comes nearest")
