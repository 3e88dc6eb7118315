"""The consistency family on flow matching (alpha = 1 - sigma), against closed forms in float64.

The exact ODE solution is a fixed point; jumps start and segments end as they should; a network
carried over from a variance-preserving process by equal signal-to-noise ratio has equal targets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from distillbench.core.grid import gamma_end
from distillbench.core.process import CLEAN, NoiseProcess
from distillbench.core.schedules import flow_grid, solver_grid
from distillbench.core.solve import consistency_function, ddim, second_order_jump, transition
from distillbench.errors import NotSupported
from distillbench.methods.lcm import LCM, LCMConfig
from distillbench.methods.shared.consistency import SolverStep
from distillbench.methods.tcd import TCD, TCDConfig
from distillbench.methods.tscd import TSCD, TSCDConfig

FLOW = NoiseProcess.flow()
DATA = 0.7
LIKE = torch.empty(1, 1, dtype=torch.float64)
PLAIN: dict[str, Any] = {"teacher_guidance": (1, 1), "distance": "l2"}
ONE: dict[str, Any] = {"w_mse": (1.0,), "w_adv": (0.0,), "offset_noise": 0.0}
Output = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def variance(t: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    alpha, sigma = FLOW.alpha_sigma(t, like)
    return (alpha * DATA) ** 2 + sigma**2


def solution(x: torch.Tensor, t: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """The exact trajectory of data N(0, .7^2)."""
    return x * (variance(s, x) / variance(t, x)).sqrt()


def velocity(x: torch.Tensor, t: torch.Tensor, _: Any = None) -> torch.Tensor:
    """E[eps - x0 | x_t] of data N(0, .7^2)."""
    alpha, sigma = FLOW.alpha_sigma(t, x)
    return (sigma - alpha * DATA**2) / variance(t, x) * x


def point(x: torch.Tensor, t: torch.Tensor, _: Any = None) -> torch.Tensor:
    """The velocity of data at the one point .3: its paths are straight lines."""
    return (x - 0.3) / FLOW.alpha_sigma(t, x)[1].clamp(min=1e-12)


def wavy(x: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x * 0.7 + 0.1 * label) + 0.2 * x + 1e-4 * t[:, None]


def bound(
    kind: Any, config: Any, toy: Any, teacher: Output, student: Any = None, shift: float = 1.0
) -> Any:
    shifted = type("Shifted", (toy,), {"time_shift": property(lambda self: shift)})
    backbone = shifted(teacher, FLOW)
    backbone.prediction_type = "flow"
    method = kind(config, backbone)
    method.bind({"student": SimpleNamespace(name="student", fn=student or teacher, ema=None)})
    return method


def batch_of(method: Any, size: int = 256) -> Any:
    return method.backbone.batch(size, DATA * randn(size, 2))


def loss(method: Any) -> float:
    return float(method.loss("student", batch_of(method), 0).total)


class Told:
    """Jumps of a network that knows its end: the velocity whose jump lands on the solution."""

    def jump(self, net: Any, x: Any, t: Any, end: Any, batch: Any, scale: Any) -> Any:
        (_, sigma_t), (_, sigma_s) = (FLOW.alpha_sigma(v, x) for v in (t, end))
        v = (x - solution(x, t, end)) / (sigma_t - sigma_s)
        x0, eps = x - sigma_t * v, x + (1 - sigma_t) * v
        return ddim(x0, eps, *FLOW.alpha_sigma(end, x))


class ExactSolver:
    """x_u on the exact trajectory, where Euler's step is only near it."""

    def solver_step(self, batch: Any, noise: Any, count: int = 1) -> SolverStep:
        pair: SolverStep = super().solver_step(batch, noise, count)  # type: ignore[misc]
        return replace(pair, x_u=solution(pair.x_t, pair.t, pair.u))


# ---- the exact solution is a fixed point -----------------------------------------------------


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("ends", ["grid", "reals"])
def test_the_exact_solution_has_no_loss_in_tcd(toy: Any, ends: Any, shift: float) -> None:
    config = TCDConfig(**PLAIN, ends=ends)
    exact, near = (type("Exact", (*kinds, TCD), {}) for kinds in ((Told, ExactSolver), (Told,)))
    assert loss(bound(exact, config, toy, velocity, shift=shift)) <= 1e-18
    left = loss(bound(near, config, toy, velocity, shift=shift))
    assert 1e-10 < left < 2e-3  # Euler's step leaves a little


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("segments", [8, 4, 2, 1])
def test_the_exact_solution_has_no_loss_in_any_segment(
    toy: Any, segments: int, shift: float
) -> None:
    config = TSCDConfig(**PLAIN, **ONE, segments=(segments,), stop_at_segments=segments)
    exact, near = (type("Exact", (*kinds, TSCD), {}) for kinds in ((Told, ExactSolver), (Told,)))
    assert loss(bound(exact, config, toy, velocity, shift=shift)) <= 1e-18
    assert 1e-12 < loss(bound(near, config, toy, velocity, shift=shift)) < 2e-3


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_the_exact_solution_has_no_loss_in_lcm(toy: Any, shift: float) -> None:
    """The x0 that makes c_skip x + c_out x0 the end of the trajectory; at the end itself, x."""

    def told(x: torch.Tensor, t: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        tau = 10 * t.double()[:, None]
        c_skip, c_out = 0.25 / (tau**2 + 0.25), tau / (tau**2 + 0.25).sqrt()
        end = solution(x, t, torch.zeros_like(t))
        x0 = (end - c_skip * x) / c_out.clamp(min=1e-9)
        sigma = FLOW.alpha_sigma(t, x)[1]
        return torch.where(sigma > 0, (x - x0) / sigma.clamp(min=1e-9), 0.0)

    exact = type("Exact", (ExactSolver, LCM), {})
    config = LCMConfig(**PLAIN)
    assert loss(bound(exact, config, toy, velocity, told, shift)) <= 1e-18
    assert 1e-12 < loss(bound(LCM, config, toy, velocity, told, shift)) < 2e-3


@pytest.mark.parametrize(("kind", "config"), [
    (LCM, LCMConfig(**PLAIN)), (TCD, TCDConfig(**PLAIN)), (TCD, TCDConfig(**PLAIN, ends="reals")),
    (TSCD, TSCDConfig(**PLAIN, **ONE, segments=(1,))),
])  # fmt: skip
def test_straight_paths_have_no_loss_as_they_are(toy: Any, kind: Any, config: Any) -> None:
    """On straight paths Euler's step and every jump are exact: no solver error, no floor."""
    assert loss(bound(kind, config, toy, point)) <= (1e-9 if kind is LCM else 1e-24)


# ---- solver step and boundaries --------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_the_solver_step_is_eulers_of_the_guided_velocity(toy: Any, scale: float) -> None:
    method = bound(TCD, TCDConfig(teacher_guidance=(scale, scale)), toy, wavy, shift=3.0)
    batch = batch_of(method)
    pair = method.solver_step(batch, batch.randn("noise"))
    assert pair.t.dtype == torch.float64
    grid = torch.tensor([0.0, *flow_grid(50, 3.0)], dtype=torch.float64)
    assert torch.equal(torch.stack([pair.t, pair.u]), torch.stack([grid[pair.index + 1],
                                                                   grid[pair.index]]))  # fmt: skip
    cond, free = (c.expand(256).tensors["label"][:, None] for c in (batch.cond, batch.uncond))
    v_c, v_u = (wavy(pair.x_t, pair.t, label) for label in (cond, free))
    euler = pair.x_t - (pair.t - pair.u)[:, None] / 1000 * (v_u + scale * (v_c - v_u))
    assert (pair.x_u - euler).abs().max() <= 1e-13


def test_the_solver_step_is_exact_on_straight_paths(toy: Any) -> None:
    method = bound(TCD, TCDConfig(**PLAIN), toy, point)
    method.backbone.teacher = point
    noise = randn(256, 2, seed=1)
    batch = method.backbone.batch(256, torch.full((256, 2), 0.3, dtype=torch.float64))
    pair = method.solver_step(batch, noise)
    assert (pair.x_u - FLOW.add_noise(batch.latents, noise, pair.u)).abs().max() <= 1e-13


def test_one_solver_step_has_an_error_of_second_order() -> None:
    x = randn(64, 1)
    errors = []
    for h in (40.0, 20.0, 10.0):
        t = torch.full((64,), 500.0, dtype=torch.float64)
        v, s = velocity(x, t), t - h
        x0, eps = x - 0.5 * v, x + 0.5 * v
        errors.append((ddim(x0, eps, *FLOW.alpha_sigma(s, x)) - solution(x, t, s)).abs().max())
    assert [float(a / b) for a, b in pairwise(errors)] == pytest.approx([4, 4], rel=0.15)


@pytest.mark.parametrize("tcf", ["1", "2", "S+"])
def test_a_jump_to_its_start_is_the_identity(toy: Any, tcf: Any) -> None:
    method = bound(TCD, TCDConfig(tcf=tcf), toy, wavy)
    x, t = randn(4, 2), torch.tensor([1000.0, 57.6923, 20.0, 0.3], dtype=torch.float64)
    net, batch = method.net["student"], batch_of(method, 4)
    assert (method.jump(net, x, t, t, batch, torch.ones(4)) - x).abs().max() <= 1e-12


def test_lcms_function_is_the_identity_at_the_data_and_the_data_elsewhere(toy: Any) -> None:
    method = bound(LCM, LCMConfig(**PLAIN), toy, wavy)
    x, t = randn(4, 2), torch.tensor([0.0, 20.0, 499.5, 1000.0], dtype=torch.float64)
    batch = batch_of(method, 4)
    f = method.f(method.net["student"], x, t, batch, torch.ones(4))
    x0 = x - t[:, None] / 1000 * wavy(x, t, batch.cond.tensors["label"][:, None])
    assert torch.equal(f[0], x[0])
    assert (f - x0)[1:].abs().max() < 2e-5
    assert (consistency_function(x, x0, t, timestep_scaling=0.01) - x0)[1].abs().max() > 0.1


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize(("steps", "segments"), [(40, 8), (40, 4), (40, 1), (12, 3), (7, 7)])
def test_ends_lie_in_the_segment_both_included(
    toy: Any, steps: int, segments: int, shift: float
) -> None:
    """Edges are T S(i / k), at any number of steps: those of k of the family's own steps."""
    config = TSCDConfig(
        **PLAIN, **ONE, segments=(segments,), stop_at_segments=segments, solver_steps=steps
    )
    method = bound(TSCD, config, toy, wavy, shift=shift)
    batch = batch_of(method, 20_000)
    pair, end = method.times(batch, method.config.phases[0])
    edges = torch.tensor([0.0, *flow_grid(segments, shift)], dtype=torch.float64)
    edge = edges[torch.searchsorted(edges, pair.t) - 1]
    assert bool((edge <= end + 1e-9).all())
    assert bool(((end <= pair.u) & (pair.u < pair.t)).all())
    grid = torch.tensor([0.0, *flow_grid(steps, shift)], dtype=torch.float64)
    assert bool(torch.isin(end, grid).all())
    for t in grid[1:]:
        here = pair.t == t
        assert bool((end[here] == pair.u[here]).any())
        assert bool(((end - edge)[here].abs() < 1e-9).any())


def test_real_ends_fill_the_range(toy: Any) -> None:
    method = bound(TCD, TCDConfig(**PLAIN, ends="reals"), toy, wavy)
    batch = batch_of(method, 4000)
    pair = method.solver_step(batch, batch.randn("noise"))
    end = method.end_time(batch, pair)
    assert bool(((end >= 0) & (end <= pair.u)).all())
    inside = pair.u > 0
    share = (end / pair.u)[inside]
    assert share.unique().numel() == int(inside.sum())
    assert float(share.mean()) == pytest.approx(0.5, abs=0.02)
    assert bool((end[~inside] == 0).all())


# ---- the second order ------------------------------------------------------------------------


def test_the_time_halfway_is_the_middle_in_half_log_snr() -> None:
    t = torch.tensor([1000.0, 900.0, 500.0, 500.0, 0.8, 20.0], dtype=torch.float64)
    s = torch.tensor([250.0, 100.0, 499.9, 0.0, 0.2, 0.0], dtype=torch.float64)
    m = FLOW.halfway(t, s)
    low = torch.where(s > 0, s, 20.0)  # the data counts as this time
    lam = [((1000 - v) / v).log() for v in (t.clamp(max=999), m, low)]
    assert ((lam[0] + lam[2]) / 2 - lam[1]).abs()[:5].max() <= 1e-12
    assert bool(((s < m) & (m < t))[:5].all())
    assert m[5] == t[5]  # no time between: first order


def test_the_second_order_jump_is_of_third_order_and_finite_at_both_ends() -> None:
    x = randn(64, 1)

    def jumped(t: float, s: float) -> tuple[torch.Tensor, torch.Tensor]:
        times = [torch.full((64,), v, dtype=torch.float64) for v in (t, s)]
        (alpha, sigma), v = FLOW.alpha_sigma(times[0], x), velocity(x, times[0])

        def x0_at(x_m: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
            return x_m - FLOW.alpha_sigma(m, x_m)[1] * velocity(x_m, m)

        got = second_order_jump(FLOW, x, x - sigma * v, x + alpha * v, *times, x0_at)
        return got, solution(x, *times)

    errors = [float((a - b).abs().max()) for a, b in (jumped(500, 500 - h) for h in (80, 40, 20))]
    assert [a / b for a, b in pairwise(errors)] == pytest.approx([8, 8], rel=0.3)
    for t, end in ((1000.0, 500.0), (1000.0, 0.0)):  # infinite steps from pure noise: first order
        got, _ = jumped(t, end)
        assert (
            got - (x - (t - end) / 1000 * velocity(x, torch.full((64,), t)))
        ).abs().max() < 1e-12
    got, exact = jumped(300.0, 0.0)
    first = x - 0.3 * velocity(x, torch.full((64,), 300.0))
    assert (got - exact).abs().max() < 0.7 * (first - exact).abs().max()


# ---- agreement with variance-preserving diffusion --------------------------------------------

VP = NoiseProcess.scaled_linear(final=CLEAN)


def mapped(t: torch.Tensor | float) -> torch.Tensor:
    """The flow time of equal signal-to-noise ratio: sigma' = sigma / (alpha + sigma)."""
    alpha, sigma = VP.alpha_sigma(t, LIKE)
    return (1000 * sigma / (alpha + sigma)).reshape(-1)


class Carried:
    """A network of the diffusion process at integer times, as a velocity at the mapped times.

    x_flow = x / (alpha + sigma) has the same x0 and eps, so that v = eps - x0.
    """

    def __init__(self, eps: Output, times: tuple[int, ...]) -> None:
        self.eps, self.times = eps, torch.tensor(times)
        self.known = mapped(self.times)

    def __call__(self, x: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        near = (t[:, None] - self.known).abs().min(1)
        assert near.values.max() < 1e-9
        whole = self.times[near.indices]
        alpha, sigma = VP.alpha_sigma(whole, x)
        x_vp = x * (alpha + sigma)
        eps = self.eps(x_vp, whole, label)
        return eps - (x_vp - sigma * eps) / alpha


@pytest.mark.parametrize("kind", ["lcm", "tcd", "tscd"])
def test_targets_are_those_of_the_diffusion_form_under_the_snr_map(toy: Any, kind: str) -> None:
    """Step, jump and target of one network under both processes, guided, on equal draws."""
    config: Any = {
        "lcm": LCMConfig(teacher_guidance=(3, 3)), "tcd": TCDConfig(teacher_guidance=(3, 3)),
        "tscd": TSCDConfig(teacher_guidance=(3, 3), **ONE, segments=(4,), stop_at_segments=4),
    }[kind]  # fmt: skip
    make, times = {"lcm": LCM, "tcd": TCD, "tscd": TSCD}[kind], solver_grid(config.solver_steps)
    carried = Carried(wavy, (0, *times))
    grid = tuple(mapped(torch.tensor(times)).tolist())
    on_grid = type("OnGrid", (toy,), {"solver_grid": lambda self, steps: grid})
    flow, diffusion = on_grid(carried, FLOW), toy(wavy, VP)
    flow.prediction_type = "flow"
    found = []
    for backbone, fn in ((flow, carried), (diffusion, wavy)):
        method = make(config, backbone)
        method.bind({"student": SimpleNamespace(name="student", fn=fn, ema=None)})
        batch = batch_of(method, 128)
        noise = batch.randn("noise").double()
        pair = method.solver_step(batch, noise)
        end = torch.full_like(pair.t, backbone.process.final)
        if kind == "lcm":
            net = method.net["student"]
            ends = [(pair.x_t, pair.t), (pair.x_u, pair.u)]
            jumps = [method.f(net, x, t, batch, pair.scale) for x, t in ends]
        else:
            end = method.grid_end(pair, batch, config.segments[0] if kind == "tscd" else 1)
            jumps = list(method.jumps(method.jump, pair, end, batch))

        def unit(t: torch.Tensor, process: NoiseProcess = backbone.process) -> torch.Tensor:
            return torch.stack(process.alpha_sigma(t, LIKE)).sum(0)

        scales = (unit(pair.t), unit(pair.u), unit(end), unit(end))
        states = (pair.x_t, pair.x_u, *jumps)
        found.append([x / scale for x, scale in zip(states, scales, strict=True)])
    for ours, theirs in zip(*found, strict=True):
        size = theirs.abs().max()
        # LCM's c_skip and c_out read the time itself, 1e-5 of the size at the lowest.
        assert (ours - theirs).abs().max() <= (5e-4 if kind == "lcm" else 1e-9) * size


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("p", [900.0, 500.0, 57.6923])
def test_gammas_split_keeps_alpha_and_sigma_at_real_times(gamma: float, p: float) -> None:
    """From s = (1 - gamma) p the kernel leads back to p; gamma 1 re-noises the data."""
    at_p = torch.tensor([p], dtype=torch.float64)
    s = gamma_end(at_p, gamma)
    assert s.item() == pytest.approx((1 - gamma) * p)
    (alpha_s, sigma_s), (alpha_p, sigma_p) = (FLOW.alpha_sigma(v, LIKE) for v in (s, at_p))
    r, b = transition(alpha_s, sigma_s, alpha_p, sigma_p)
    assert (r * alpha_s - alpha_p).abs().item() <= 4e-16
    assert ((r * sigma_s) ** 2 + b**2 - sigma_p**2).abs().item() <= 4e-16
    if gamma == 1.0:
        assert (r.item(), b.item()) == pytest.approx((1 - p / 1000, p / 1000))


# ---- settings that only integer times have ---------------------------------------------------


def test_ends_between_grid_times_are_what_the_times_are(toy: Any) -> None:
    with pytest.raises(NotSupported, match="are reals; ends: integers"):
        bound(TCD, TCDConfig(ends="integers"), toy, wavy)
    with pytest.raises(NotSupported, match="are integers; ends: reals"):
        TCD(TCDConfig(ends="reals"), toy(wavy, VP))


def test_any_number_of_solver_steps_divides_real_times(toy: Any) -> None:
    assert bound(LCM, LCMConfig(solver_steps=7), toy, wavy).sampler(7).timesteps[-1] > 142.8
    with pytest.raises(NotSupported, match="7 solver steps do not divide 1000 times"):
        LCM(LCMConfig(solver_steps=7), toy(wavy, VP))
    for process in (FLOW, VP):
        with pytest.raises(NotSupported, match="2000 solver steps are more than the 1000 times"):
            LCM(LCMConfig(solver_steps=2000), toy(wavy, process))
