"""Identities of solver grids, segments (TCD, TSCD, PCM) and re-noising ranges (TDM)."""

from __future__ import annotations

import pytest
import torch

from distillbench.core.grid import (
    SolverGrid,
    gamma_end,
    lower_bounds,
    segment_start,
    tau_ranges,
    uniform_int,
    uniform_time,
)
from distillbench.core.parameterization import x0_eps
from distillbench.core.process import CLEAN, NoiseProcess
from distillbench.core.schedules import (
    flow_grid,
    lcm_times,
    shifted_nodes,
    solver_grid,
    tdm_nodes,
    trailing,
)
from distillbench.core.solve import ddim, transition

SD = NoiseProcess.scaled_linear()
Pair = tuple[torch.Tensor, torch.Tensor]


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def at(t: float | torch.Tensor, process: NoiseProcess = SD) -> Pair:
    return process.alpha_sigma(t, torch.empty(1, 1, dtype=torch.float64))


LIKE = torch.empty(1, 1, dtype=torch.float64)


def grid_of(steps: int, final: int = 0) -> SolverGrid:
    return SolverGrid((final, *solver_grid(steps)))


def worst(difference: torch.Tensor) -> float:
    return difference.abs().max().item()


@pytest.mark.parametrize("final", [0, CLEAN])
def test_solver_table(final: int) -> None:
    times, u = grid_of(50, final).step(torch.arange(50), LIKE)
    assert (len(times), times[0].item(), times[-1].item()) == (50, 19, 999)
    assert u.tolist() == [final, *times[:-1].tolist()]
    z0, eps = randn(50, 3), randn(50, 3, seed=1)
    alpha, sigma = at(times)
    x0, read = x0_eps(eps, alpha * z0 + sigma * eps, alpha, sigma, "epsilon")
    alpha_u, sigma_u = at(u)
    assert worst(ddim(x0, read, alpha_u, sigma_u) - (alpha_u * z0 + sigma_u * eps)) <= 1e-12


def test_grid_must_divide_the_timesteps() -> None:
    with pytest.raises(ValueError, match="30 solver steps do not divide 1000"):
        solver_grid(30)


def test_gamma_end_floors_integers_keeps_reals_and_stops_at_the_end() -> None:
    times = torch.tensor([759, 499, 259, 0, CLEAN])
    assert gamma_end(times, 0.3).tolist() == [531, 349, 181, 0, CLEAN]
    assert gamma_end(times, 1.0).tolist() == [0, 0, 0, 0, CLEAN]
    assert gamma_end(times, 0.0).tolist() == times.tolist()
    assert gamma_end(torch.tensor([750.0, 0.0]), 0.3).tolist() == pytest.approx([525.0, 0.0])


def test_one_segment_is_tcd() -> None:
    index = torch.arange(50)
    assert segment_start(index, 50, 1).tolist() == [0] * 50
    u = torch.rand(50, generator=torch.Generator().manual_seed(0))
    tscd = uniform_int(u, segment_start(index, 50, 1), index + 1)
    assert torch.equal(tscd, uniform_int(u, torch.zeros_like(index), index + 1))


@pytest.mark.parametrize("segments", [8, 4, 2, 1])
@pytest.mark.parametrize("steps", [40, 50])
@pytest.mark.parametrize("final", [0, CLEAN])
def test_grid_ends_stay_in_their_segment(segments: int, steps: int, final: int) -> None:
    grid = grid_of(steps, final)
    edges = [j * steps // segments for j in range(segments)]
    for j in range(steps):
        index = torch.tensor([j])
        start = segment_start(index, steps, segments)
        assert start.item() == max(e for e in edges if e <= j)
        draws = torch.linspace(0, 0.999, 2000)
        m = uniform_int(draws, start, index + 1)
        assert (m.min().item(), m.max().item()) == (start.item(), j)
        t, u = grid.step(index, LIKE)
        s = grid.at(m, LIKE)
        assert bool((s <= u).all())
        assert bool((u < t).all())


@pytest.mark.parametrize("segments", [8, 4, 2, 1])
def test_edges_are_the_times_a_sampler_of_as_many_steps_stops_at(segments: int) -> None:
    """At every integer time, which a grid of 1000 steps has, and on a grid of 40."""
    length = 1000 // segments
    for steps in (1000, 40):
        index, grid = torch.arange(steps), grid_of(steps)
        t, _ = grid.step(index, LIKE)
        edge = grid.at(segment_start(index, steps, segments), LIKE)
        assert torch.equal(edge, (length * (t // length) - 1).clamp(min=0))
        assert bool((edge < t)[1:].all())
        assert set(edge.tolist()) == {0, *trailing(segments)[1:]}


@pytest.mark.parametrize(
    ("segments", "edges"), [(8, [0, 119, 239, 499]), (4, [0, 0, 239, 499]), (2, [0, 0, 0, 499])]
)
def test_times_that_break_the_literal_rule_have_an_end_to_draw(
    segments: int, edges: list[int]
) -> None:
    """On 50 steps TSCD's formula puts u below the edge of t's segment, or leaves no end at all."""
    t = torch.tensor([19, 139, 259, 519])
    index = (t + 1) // 20 - 1
    start = segment_start(index, 50, segments)
    grid = grid_of(50)
    edge, u = (grid.at(i, LIKE) for i in (start, index))
    assert edge.tolist() == edges
    assert bool(((edge <= u) & (u < t)).all())
    for draw in (0.0, 1 - 2**-24):
        m = uniform_int(torch.full((4,), draw), start, index + 1)
        s = grid.at(m, LIKE)
        assert torch.equal(s, u if draw else edge)


def test_uniform_int_never_reaches_its_upper_bound() -> None:
    u = torch.tensor([0.0, 1 - 2**-24])
    assert uniform_int(u, torch.tensor([20]), torch.tensor([989])).tolist() == [20, 988]


def test_times_between_bounds_are_integers_or_reals_as_the_bounds_are() -> None:
    u = torch.tensor([0.0, 0.5, 1 - 2**-24])
    whole = uniform_time(u, torch.full((3,), -1), torch.full((3,), 979))
    assert whole.tolist() == [-1, 489, 979]  # both ends included
    real = uniform_time(u, torch.zeros(3), torch.full((3,), 57.5))
    assert real.tolist() == pytest.approx([0.0, 28.75, 57.5])


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("steps", [40, 50, 7])
def test_a_flow_grid_is_real_and_shifted(steps: int, shift: float) -> None:
    """1000 S(j / N) itself, of which the family's few-step nodes are the floored entries."""
    grid = flow_grid(steps, shift)
    assert all(isinstance(t, float) for t in grid)
    assert (len(grid), grid[-1]) == (steps, 1000.0)
    u = torch.arange(1, steps + 1, dtype=torch.float64) / steps
    real = torch.tensor(grid, dtype=torch.float64)
    assert worst(real - 1000 * shift * u / (1 + (shift - 1) * u)) <= 1e-12 * 1000
    floored = [int(t + 1e-9) for t in reversed(grid)]
    assert tuple(floored) == shifted_nodes(steps, shift, flow=True)
    times, ends = SolverGrid((0, *grid)).step(torch.arange(steps), torch.empty(1))
    assert times.dtype == ends.dtype == torch.float32
    assert ends.tolist() == [0.0, *times[:-1].tolist()]


def test_sampling_times_of_a_flow_grid_stand_where_those_of_integers_do() -> None:
    assert lcm_times(4, flow_grid(50)) == (1000, 760, 500, 260)
    assert lcm_times(4, flow_grid(40, 3.0)) == (1000, 900, 750, 500)
    for steps in range(1, 51):
        whole, real = lcm_times(steps), lcm_times(steps, flow_grid(50))
        assert real == pytest.approx([t + 1 for t in whole])


@pytest.mark.parametrize(
    ("nodes", "lowers", "disjoint"),
    [
        ((999,), (0,), ((20, 989),)),
        ((999, 499), (500, 0), ((500, 989), (20, 489))),
        ((999, 749, 499, 249), (750, 500, 250, 0), ((750, 989), (500, 739), (250, 489), (20, 239))),
        ((899, 674, 449, 224), (675, 450, 225, 0), ((675, 889), (450, 664), (225, 439), (20, 214))),
        ((999, 856, 665, 399), (857, 666, 400, 0), ((857, 989), (666, 846), (400, 655), (20, 389))),
    ],
)
def test_tables(
    nodes: tuple[int, ...], lowers: tuple[int, ...], disjoint: tuple[tuple[int, int], ...]
) -> None:
    assert lower_bounds(nodes) == lowers
    assert tau_ranges(nodes, "disjoint") == disjoint
    top = nodes[0] + 1 - 10
    terminal = tuple((max(20, m), top) for m in lowers)
    assert tau_ranges(nodes, "terminal") == terminal


def test_ranges_lie_in_their_segments_and_are_disjoint() -> None:
    for steps in (1, 2, 4, 8, 16):
        nodes = tdm_nodes(steps)
        ranges = tau_ranges(nodes, "disjoint")
        for u, m, (low, high) in zip(nodes, lower_bounds(nodes), ranges, strict=True):
            assert m <= low < high <= u
        covered = [t for low, high in ranges for t in range(low, high)]
        assert len(covered) == len(set(covered))
        # All of [20, T - 11] but the guards below the inner nodes, eleven times each.
        assert len(covered) == 989 - 20 - 11 * (steps - 1)


def test_too_many_segments() -> None:
    assert tau_ranges(tdm_nodes(30), "disjoint")
    with pytest.raises(ValueError, match="empty re-noising range"):
        tau_ranges(tdm_nodes(50), "disjoint")


@pytest.mark.parametrize("nodes", [tdm_nodes(4), (999, 856, 665, 399)])
def test_no_kernel_of_a_segment_removes_noise(nodes: tuple[int, ...]) -> None:
    """sigma_tau^2 >= (alpha_tau / alpha_m)^2 sigma_m^2, unclamped, at every tau of its range."""
    for m, (low, high) in zip(lower_bounds(nodes), tau_ranges(nodes, "disjoint"), strict=True):
        (alpha_m, sigma_m), (alpha, sigma) = at(m), at(torch.arange(low, high))
        left = sigma**2 - (alpha / alpha_m) ** 2 * sigma_m**2
        assert bool((left >= 0).all())
        _, b = transition(alpha_m, sigma_m, alpha, sigma)
        assert worst(b - left.sqrt()) == 0


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_segments_end_at_the_very_next_node(shift: float) -> None:
    """No offset of one time, as sigma is continuous; the last segment ends at sigma 0."""
    nodes = shifted_nodes(4, shift, flow=True)
    lows = lower_bounds(nodes, exact=True)
    assert lows == (*nodes[1:], 0)
    disjoint = tau_ranges(nodes, "disjoint", exact=True)
    assert disjoint == tuple((max(20, m), u - 10) for u, m in zip(nodes, lows, strict=True))
    assert tau_ranges(nodes, "terminal", exact=True)[0] == (nodes[1], 990)
    alpha, sigma = at(lows[-1], NoiseProcess.flow())
    assert (alpha.item(), sigma.item()) == (1.0, 0.0)
