"""Recipes of published checkpoints, step by step against stock schedulers and the papers' forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from distillbench.api.backbone import Prediction
from distillbench.api.samplers import crossed, from_recipe
from distillbench.api.stock_samplers import EulerSampler, WindowsSampler
from distillbench.core.parameterization import raw_output, x0_eps
from distillbench.core.process import NoiseProcess
from distillbench.errors import BadInput
from distillbench.student.trial import TrialTeacher, distance

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
PROCESS = NoiseProcess.scaled_linear()


@pytest.mark.parametrize("nfe", [1, 2, 4, 8])
@pytest.mark.parametrize(
    ("prediction", "eta"),  # the ancestral one reads no prediction of the data
    [("epsilon", 0.0), ("v_prediction", 0.0), ("sample", 0.0), ("epsilon", 1.0),
     ("v_prediction", 1.0)],
)  # fmt: skip
def test_euler_is_the_stock_scheduler(nfe: int, prediction: str, eta: float) -> None:
    kind = diffusers.EulerAncestralDiscreteScheduler if eta else diffusers.EulerDiscreteScheduler
    scheduler = kind(**SD, timestep_spacing="trailing", prediction_type=prediction)
    times = tuple(round(1000 * (nfe - i) / nfe) - 1 for i in range(nfe))
    sampler = EulerSampler(timesteps=times, eta=eta)
    teacher = TrialTeacher(PROCESS, prediction, SD)
    assert distance(scheduler, {"num_inference_steps": nfe}, sampler, teacher) < 1e-5


def test_the_start_is_scaled_as_the_scheduler_scales_it() -> None:
    """0.9977 of the noise, where a sampler of unit noise takes all of it."""
    zeros: Callable[..., Prediction] = lambda x, t, **_: Prediction(x, x, x)  # noqa: E731
    x = torch.ones(1, 2)
    ends = [EulerSampler(timesteps=(999,), start=start).sample(zeros, x, PROCESS, lambda i: x)
            for start in ("sigma", "unit")]  # fmt: skip
    assert float(ends[0][0, 0] / ends[1][0, 0]) == pytest.approx(0.9977, abs=1e-4)


# ---- piecewise and straight flows -----------------------------------------------------------


def network(x: Tensor, t: Tensor) -> Tensor:
    return torch.tanh(0.6 * x + torch.cos(t.double() / 100).reshape(-1, 1))


def piecewise(x: Tensor, steps: int, windows: int, reads: str) -> Tensor:
    """PeRFlow's rule in its paper's symbols: gamma of a window, its end, the velocity to it."""
    squared = (PROCESS.alphas**2).double()
    times = WindowsSampler.times(steps, windows)
    for i, t in enumerate(times):
        index = next(k for k in range(windows) if t / 1000 > 1 - (k + 1) / windows + 1e-4)
        start, end = 1 - index / windows, 1 - (index + 1) / windows
        a_s = squared[round(start * 1000) - 1]
        a_e = squared[max(round(end * 1000) - 1, 0)]
        gamma = (a_s / a_e) ** 0.5
        eta = -((1 - gamma**2) ** 0.5) / gamma
        if reads == "ddim_eps":
            eta = (1 - a_e) ** 0.5 - ((1 - a_s) ** 0.5) / gamma
        now, below = t / 1000, (*times, 0)[i + 1] / 1000
        down = (now - start) / gamma + (end - now)
        eps = network(x, torch.tensor([t]))
        target = ((end - start) / gamma * x + eta * (end - now) * eps) / down
        x = x + (below - now) * (target - x) / (end - now)
    return x


@pytest.mark.parametrize(("steps", "windows"), [(1, 1), (2, 2), (4, 4), (6, 4), (8, 4), (5, 3)])
@pytest.mark.parametrize("reads", ["diff_eps", "ddim_eps"])
def test_windows_follow_the_papers_rule(steps: int, windows: int, reads: Any) -> None:
    x = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    times = WindowsSampler.times(steps, windows)
    sampler = WindowsSampler(timesteps=times, windows=windows, reads=reads)

    def denoise(x_t: Tensor, t: Tensor, *, end_t: Any = None) -> Prediction:
        raw = network(x_t, t)
        return Prediction(raw, raw, raw)

    ours = sampler.sample(denoise, x, PROCESS, lambda _: x)
    torch.testing.assert_close(ours, piecewise(x, steps, windows, reads), rtol=0, atol=1e-9)


def test_times_of_windows() -> None:
    assert WindowsSampler.times(4, 4) == (1000, 750, 500, 250)
    assert WindowsSampler.times(6, 4) == (1000, 875, 750, 625, 500, 250)
    assert WindowsSampler.times(1, 1) == (1000,)
    with pytest.raises(ValueError, match="each takes one"):
        WindowsSampler.times(2, 4)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_velocity_to_the_data_is_eulers_method_on_a_straight_path(steps: int) -> None:
    """InstaFlow's x + dt v with t = (1 - i / N) 1000: the ODE sampler on a flow process."""
    flow = NoiseProcess.flow()
    times = tuple(1000 - i * 1000 // steps for i in range(steps))
    x = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def denoise(x_t: Tensor, t: Tensor, *, end_t: Any = None) -> Prediction:
        raw = network(x_t, t)
        return Prediction(*x0_eps(raw, x_t, *flow.alpha_sigma(t, x_t), "velocity"), raw)

    sampler = from_recipe({"kind": "ode", "timesteps": times})
    ours, theirs = sampler.sample(denoise, x, flow, lambda _: x), x
    for t in times:
        theirs = theirs + network(theirs, torch.tensor([t])) / steps
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_a_velocity_reads_back() -> None:
    x0, eps = torch.randn(2, 3), torch.randn(2, 3)
    alpha, sigma = torch.tensor(0.3), torch.tensor(0.7)
    raw = raw_output(x0, eps, alpha, sigma, "velocity")
    found = x0_eps(raw, alpha * x0 + sigma * eps, alpha, sigma, "velocity")
    torch.testing.assert_close(found, (x0, eps))


def test_recipes_of_other_kinds_keep_times_and_scales() -> None:
    given = from_recipe({"kind": "renoise", "timesteps": [999, 499], "embed_scale": 8.0})
    made = crossed(given, "euler")
    assert (made.kind, made.timesteps, made.embed_scale) == ("euler", (999, 499), 8.0)
    with pytest.raises(BadInput, match="windows"):
        crossed(given, "heun")
