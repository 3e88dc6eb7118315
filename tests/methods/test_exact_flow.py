"""The consistency family on Gaussian data, where a teacher's trajectories are known in closed form.

LCM (arXiv 2310.04378), TCD (arXiv 2402.19159) and TSCD (arXiv 2404.13686): networks that are the
exact flow have no loss, and a network that is not told its end cannot be it.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from distillbench.core.process import CLEAN, NoiseProcess
from distillbench.core.solve import ddim
from distillbench.methods.lcm import LCM, LCMConfig
from distillbench.methods.shared.consistency import SolverStep
from distillbench.methods.tcd import TCD, TCDConfig
from distillbench.methods.tscd import TSCD, TSCDConfig

SD = NoiseProcess.scaled_linear()
CLEAN_END = NoiseProcess.scaled_linear(final=CLEAN)
DATA = 0.7
SHARED: dict[str, Any] = {"teacher_guidance": (1, 1), "distance": "l2"}
SEGMENTS: dict[str, Any] = {"w_mse": (1.0,), "w_adv": (0.0,), "offset_noise": 0.0}


def variance(process: NoiseProcess, t: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    alpha, sigma = process.alpha_sigma(t, like)
    return (alpha * DATA) ** 2 + sigma**2


def flow(process: NoiseProcess, x: torch.Tensor, t: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """The exact trajectory of data N(0, .7^2)."""
    return x * (variance(process, s, x) / variance(process, t, x)).sqrt()


def teacher(process: NoiseProcess) -> Any:
    """The exact eps."""
    return lambda x, t, _: process.alpha_sigma(t, x)[1] * x / variance(process, t, x)


class Told:
    """Jumps of a network that knows its end: the eps that makes the jump land on the flow."""

    backbone: Any

    def jump(self, net: Any, x: Any, t: Any, end: Any, batch: Any, scale: Any) -> Any:
        process = self.backbone.process
        (alpha_t, sigma_t), (alpha_s, sigma_s) = (process.alpha_sigma(v, x) for v in (t, end))
        ratio = flow(process, torch.ones_like(x), t, end)
        eps = (ratio - alpha_s / alpha_t) / (sigma_s - alpha_s * sigma_t / alpha_t) * x
        return ddim((x - sigma_t * eps) / alpha_t, eps, alpha_s, sigma_s)


class ExactSolver:
    """x_u on the exact trajectory, where DDIM's step is only near it."""

    backbone: Any

    def solver_step(self, batch: Any, noise: Any, count: int = 1) -> SolverStep:
        pair: SolverStep = super().solver_step(batch, noise, count)  # type: ignore[misc]
        return replace(pair, x_u=flow(self.backbone.process, pair.x_t, pair.t, pair.u))


def loss(kind: Any, config: Any, toy: Any, process: NoiseProcess, fn: Any = None) -> float:
    method = kind(config, toy(teacher(process), process))
    method.bind({"student": SimpleNamespace(name="student", fn=fn, ema=None)})
    latents = DATA * torch.randn(256, 2, generator=torch.Generator().manual_seed(0)).double()
    return float(method.loss("student", method.backbone.batch(256, latents), 0).total)


@pytest.mark.parametrize("process", [SD, CLEAN_END], ids=["ends at 0", "ends clean"])
@pytest.mark.parametrize("ends", ["grid", "integers"])
def test_the_exact_flow_has_no_loss_in_tcd(toy: Any, process: NoiseProcess, ends: Any) -> None:
    config = TCDConfig(teacher_guidance=(1, 1), ends=ends)
    exact, near = (type("Exact", (*kinds, TCD), {}) for kinds in ((Told, ExactSolver), (Told,)))
    assert loss(exact, config, toy, process) <= 1e-18
    assert 1e-10 < loss(near, config, toy, process) < 1e-3  # DDIM's step leaves a little


@pytest.mark.parametrize("process", [SD, CLEAN_END], ids=["ends at 0", "ends clean"])
@pytest.mark.parametrize("segments", [8, 4, 2, 1])
def test_the_exact_flow_has_no_loss_in_any_segment(
    toy: Any, process: NoiseProcess, segments: int
) -> None:
    config = TSCDConfig(**SHARED, **SEGMENTS, segments=(segments,), stop_at_segments=segments)
    exact, near = (type("Exact", (*kinds, TSCD), {}) for kinds in ((Told, ExactSolver), (Told,)))
    assert loss(exact, config, toy, process) <= 1e-18
    assert 1e-12 < loss(near, config, toy, process) < 1e-3


@pytest.mark.parametrize("process", [SD, CLEAN_END], ids=["ends at 0", "ends clean"])
def test_the_exact_flow_has_no_loss_in_lcm(toy: Any, process: NoiseProcess) -> None:
    """The x0 that makes c_skip x + c_out x0 the end of the flow; at the end itself, x."""

    def told(x: torch.Tensor, t: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        alpha, sigma = process.alpha_sigma(t, x)
        square = (10 * t.double()[:, None]) ** 2 + 0.25
        c_skip, c_out = 0.25 / square, 10 * t.double()[:, None] / square.sqrt()
        end = flow(process, x, t, torch.full_like(t, process.final))
        x0 = torch.where(c_out > 0, (end - c_skip * x) / c_out.clamp(min=1e-9), x)
        return (x - alpha * x0) / sigma

    exact = type("Exact", (ExactSolver, LCM), {})
    assert loss(exact, LCMConfig(**SHARED), toy, process, told) <= 1e-18
    assert 1e-12 < loss(LCM, LCMConfig(**SHARED), toy, process, told) < 1e-3


@pytest.mark.parametrize(("t", "floor"), [(999, 0.097), (499, 0.066), (259, 0.034)])
def test_a_network_not_told_its_end_keeps_a_loss(toy: Any, t: int, floor: float) -> None:
    """The best eps = gain x for all ends of t misses the flow by this part of its length."""
    gain = torch.zeros((), dtype=torch.float64)
    ends = torch.tensor([0, *range(19, t - 19, 20)])
    start = torch.full_like(ends, t)
    x = torch.ones(len(ends), 2, dtype=torch.float64)
    method = TCD(TCDConfig(**SHARED), toy(teacher(SD)))
    method.bind({"student": SimpleNamespace(name="student", fn=lambda x, t, _: gain * x)})
    batch = method.backbone.batch(len(ends))
    exact = flow(SD, x, start, ends)

    def error(value: float) -> float:
        gain.fill_(value)
        jumps = method.jump(method.net["student"], x, start, ends, batch, torch.ones(len(ends)))
        return float(((jumps - exact) ** 2).sum() / (exact**2).sum())

    low, middle, high = error(0.0), error(0.5), error(1.0)  # a parabola in the gain
    bend, slope = 2 * (low + high - 2 * middle), 4 * middle - 3 * low - high
    best = -slope / (2 * bend)
    assert error(best) ** 0.5 == pytest.approx(floor, abs=6e-4)
    assert error(best) < min(error(best - 0.01), error(best + 0.01))
