"""Identities of solver grids, segments (TCD, TSCD, PCM) and re-noising ranges (TDM)."""

from __future__ import annotations

import pytest
import torch

from distillbench.core.grid import (
    gamma_end,
    grid_stride,
    grid_time,
    lower_bounds,
    previous_time,
    segment_edge,
    segment_start,
    tau_ranges,
    uniform_int,
)
from distillbench.core.predict import x0_eps
from distillbench.core.process import CLEAN, NoiseProcess
from distillbench.core.solve import (
    ddim,
)
from distillbench.sample.schedules import shifted_nodes, tdm_nodes

SD = NoiseProcess.scaled_linear()
Pair = tuple[torch.Tensor, torch.Tensor]


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def at(t: float | torch.Tensor, process: NoiseProcess = SD) -> Pair:
    return process.alpha_sigma(t, torch.empty(1, 1, dtype=torch.float64))


def worst(difference: torch.Tensor) -> float:
    return difference.abs().max().item()


@pytest.mark.parametrize("final", [0, CLEAN])
def test_05_06_solver_table(final: int) -> None:
    index = torch.arange(50)
    stride = grid_stride(50)
    times = grid_time(index, stride)
    u = previous_time(times, stride, final)
    assert (len(times), times[0].item(), times[-1].item()) == (50, 19, 999)
    assert u.tolist() == [final, *times[:-1].tolist()]
    z0, eps = randn(50, 3), randn(50, 3, seed=1)
    alpha, sigma = at(times)
    x0, read = x0_eps(eps, alpha * z0 + sigma * eps, alpha, sigma, "epsilon")
    alpha_u, sigma_u = at(u)
    assert worst(ddim(x0, read, alpha_u, sigma_u) - (alpha_u * z0 + sigma_u * eps)) <= 1e-12


def test_grid_must_divide_the_timesteps() -> None:
    with pytest.raises(ValueError, match="30 solver steps do not divide 1000"):
        grid_stride(30)


def test_gamma_end_floors_integers_keeps_reals_and_stops_at_the_end() -> None:
    times = torch.tensor([759, 499, 259, 0, CLEAN])
    assert gamma_end(times, 0.3).tolist() == [531, 349, 181, 0, CLEAN]
    assert gamma_end(times, 1.0).tolist() == [0, 0, 0, 0, CLEAN]
    assert gamma_end(times, 0.0).tolist() == times.tolist()
    assert gamma_end(torch.tensor([750.0, 0.0]), 0.3).tolist() == pytest.approx([525.0, 0.0])


def test_05_12_one_segment_is_tcd() -> None:
    index = torch.arange(50)
    assert segment_start(index, 50, 1).tolist() == [0] * 50
    u = torch.rand(50, generator=torch.Generator().manual_seed(0))
    tscd = uniform_int(u, segment_start(index, 50, 1), index + 1)
    assert torch.equal(tscd, uniform_int(u, torch.zeros_like(index), index + 1))


@pytest.mark.parametrize("segments", [8, 4, 2, 1])
@pytest.mark.parametrize("steps", [40, 50])
@pytest.mark.parametrize("final", [0, CLEAN])
def test_05_13_grid_ends_stay_in_their_segment(segments: int, steps: int, final: int) -> None:
    stride = grid_stride(steps)
    edges = [j * steps // segments for j in range(segments)]
    for j in range(steps):
        index = torch.tensor([j])
        start = segment_start(index, steps, segments)
        assert start.item() == max(e for e in edges if e <= j)
        draws = torch.linspace(0, 0.999, 2000)
        m = uniform_int(draws, start, index + 1)
        assert (m.min().item(), m.max().item()) == (start.item(), j)
        t = grid_time(index, stride)
        s, u = (previous_time(grid_time(i, stride), stride, final) for i in (m, index))
        assert bool((s <= u).all())
        assert bool((u < t).all())


@pytest.mark.parametrize("segments", [8, 4, 2, 1])
def test_05_13_edges_of_all_integer_times(segments: int) -> None:
    t = torch.arange(1, 1000)
    edge = segment_edge(t, segments)
    u = torch.maximum(t - 20, edge)
    assert bool(((edge <= u) & (u < t)).all())
    length = 1000 // segments
    assert sorted(set(edge.tolist())) == [max(length * j - 1, 0) for j in range(segments)]
    index = torch.arange(40)  # edges on a 40-step grid are the same
    grid_edge = previous_time(grid_time(segment_start(index, 40, segments), 25), 25)
    assert torch.equal(segment_edge(grid_time(index, 25), segments), grid_edge)


def test_05_13_times_that_break_the_literal_rule() -> None:
    t = torch.tensor([19, 139, 259, 519])
    assert segment_edge(t, 8).tolist() == [0, 124, 249, 499]
    assert segment_edge(t, 2).tolist() == [0, 0, 0, 499]
    assert segment_edge(torch.tensor([19]), 8, final=CLEAN).tolist() == [CLEAN]


def test_uniform_int_never_reaches_its_upper_bound() -> None:
    u = torch.tensor([0.0, 1 - 2**-24])
    assert uniform_int(u, torch.tensor([20]), torch.tensor([989])).tolist() == [20, 988]


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
def test_03_03_tables(
    nodes: tuple[int, ...], lowers: tuple[int, ...], disjoint: tuple[tuple[int, int], ...]
) -> None:
    assert lower_bounds(nodes) == lowers
    assert tau_ranges(nodes, "disjoint") == disjoint
    top = nodes[0] + 1 - 10
    terminal = tuple((max(20, m), top) for m in lowers)
    assert tau_ranges(nodes, "terminal") == terminal


def test_03_03_ranges_lie_in_their_segments_and_are_disjoint() -> None:
    for steps in (1, 2, 4, 8, 16):
        nodes = tdm_nodes(steps)
        ranges = tau_ranges(nodes, "disjoint")
        for u, m, (low, high) in zip(nodes, lower_bounds(nodes), ranges, strict=True):
            assert m <= low < high <= u
        covered = [t for low, high in ranges for t in range(low, high)]
        assert len(covered) == len(set(covered))
        # All of [20, T - 11] but the guards below the inner nodes, eleven times each.
        assert len(covered) == 989 - 20 - 11 * (steps - 1)


def test_03_03_too_many_segments() -> None:
    assert tau_ranges(tdm_nodes(30), "disjoint")
    with pytest.raises(ValueError, match="empty re-noising range"):
        tau_ranges(tdm_nodes(50), "disjoint")


def test_03_03_flow_bounds_have_no_offset() -> None:
    nodes = shifted_nodes(4, 3.0, flow=True)
    assert lower_bounds(nodes, exact=True) == (900, 750, 500, 0)
    assert tau_ranges(nodes, "terminal", exact=True)[0] == (900, 990)
