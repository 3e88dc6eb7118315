"""Identities of trajectory functions and stochastic sampling (LCM, TCD), in float64."""

from __future__ import annotations

import pytest
import torch

from distillbench.core.grid import gamma_end
from distillbench.core.parameterization import guided, raw_output, x0_eps
from distillbench.core.process import CLEAN, NoiseProcess
from distillbench.core.schedules import solver_grid
from distillbench.core.solve import (
    boundary_scalings,
    consistency_function,
    ddim,
    renoise,
    second_order_jump,
    second_order_step,
    transition,
)

SD = NoiseProcess.scaled_linear()
Pair = tuple[torch.Tensor, torch.Tensor]
TYPES = ["epsilon", "v_prediction", "sample", "flow"]


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def at(t: float | torch.Tensor, process: NoiseProcess = SD) -> Pair:
    return process.alpha_sigma(t, torch.empty(1, 1, dtype=torch.float64))


def worst(difference: torch.Tensor) -> float:
    return difference.abs().max().item()


def gaussian(x: torch.Tensor, ab: Pair, c: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The exact (x0, eps) of data N(0, c^2)."""
    alpha, sigma = ab
    eps = sigma * x / variance(ab, c)
    return (x - sigma * eps) / alpha, eps


def variance(ab: Pair, c: float) -> torch.Tensor:
    return ab[0] ** 2 * c**2 + ab[1] ** 2


def at_lambda(value: float) -> Pair:
    """alpha, sigma of any half log-SNR, for tests of order in continuous time."""
    lam = torch.tensor([[value]], dtype=torch.float64)
    return torch.sigmoid(2 * lam).sqrt(), torch.sigmoid(-2 * lam).sqrt()


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("t", [1, 19, 259, 999])
def test_boundary_is_the_identity(kind: str, t: int) -> None:
    x, raw = randn(5, 3), randn(5, 3, seed=1)
    process = NoiseProcess.flow() if kind == "flow" else SD
    alpha, sigma = at(t, process)
    x0, eps = x0_eps(raw, x, alpha, sigma, kind)
    assert worst(ddim(x0, eps, alpha, sigma) - x) <= 1e-12


def test_lcm_boundary_and_scalings() -> None:
    x, x0 = randn(3, 2), randn(3, 2, seed=1)
    for t in (0, CLEAN):
        assert torch.equal(consistency_function(x, x0, torch.full((3,), t)), x)
    c_skip, c_out = boundary_scalings(torch.tensor([0, 19, 999]))
    assert c_skip.tolist() == pytest.approx([1.0, 6.9e-6, 2.5e-9], rel=1e-2)
    assert c_out.tolist() == pytest.approx([0.0, 0.9999965, 1.0], abs=1e-7)


def test_four_forms_of_the_first_order_jump_agree() -> None:
    """eps, x0 and v forms of TCF(1) against the DDIM step, for many t > s > 0."""
    rng = torch.Generator().manual_seed(2)
    t = torch.randint(2, 1000, (500,), generator=rng)
    s = (1 + (t - 1) * torch.rand(500, generator=rng, dtype=torch.float64)).long()
    t, s = torch.cat([t, torch.tensor([999, 999, 2])]), torch.cat([s, torch.tensor([1, 998, 1])])
    x, eps = randn(len(t), 4), randn(len(t), 4, seed=1)
    (alpha_t, sigma_t), (alpha_s, sigma_s) = at(t), at(s)
    x0, _ = x0_eps(eps, x, alpha_t, sigma_t, "epsilon")
    v = raw_output(x0, eps, alpha_t, sigma_t, "v_prediction")
    h = (alpha_s / sigma_s).log() - (alpha_t / sigma_t).log()
    turn = torch.atan2(sigma_t, alpha_t) - torch.atan2(sigma_s, alpha_s)
    forms = [
        alpha_s / alpha_t * x - sigma_s * torch.expm1(h) * eps,
        sigma_s / sigma_t * x - alpha_s * torch.expm1(-h) * x0,
        turn.cos() * x - turn.sin() * v,
    ]
    size = x0.abs().clamp(min=1)  # 1 / alpha_999 = 14.6 times x
    for form in forms:
        assert worst((form - ddim(x0, eps, alpha_s, sigma_s)) / size) <= 1e-13


@pytest.mark.parametrize("kind", TYPES)
def test_guiding_raw_outputs_is_guiding_x0_and_eps(kind: str) -> None:
    x, cond, uncond = randn(4, 3), randn(4, 3, seed=1), randn(4, 3, seed=2)
    scale = torch.tensor([1.0, 2.0, 7.5, 15.0])
    alpha, sigma = at(499, NoiseProcess.flow() if kind == "flow" else SD)
    both = x0_eps(guided(cond, uncond, scale), x, alpha, sigma, kind)
    separately = zip(
        x0_eps(cond, x, alpha, sigma, kind), x0_eps(uncond, x, alpha, sigma, kind), strict=True
    )
    for together, (c, u) in zip(both, separately, strict=True):
        assert worst(together - guided(c, u, scale)) <= 1e-12


@pytest.mark.parametrize("kind", TYPES)
def test_raw_output_inverts_x0_eps(kind: str) -> None:
    x, raw = randn(4, 3), randn(4, 3, seed=1)
    alpha, sigma = at(300, NoiseProcess.flow() if kind == "flow" else SD)
    x0, eps = x0_eps(raw, x, alpha, sigma, kind)
    assert worst(raw_output(x0, eps, alpha, sigma, kind) - raw) <= 1e-12
    assert worst(alpha * x0 + sigma * eps - x) <= 1e-12


def test_unknown_prediction_type() -> None:
    x = randn(1, 1)
    with pytest.raises(ValueError, match="'eps' is not one of epsilon"):
        x0_eps(x, x, x, x, "eps")


def test_delta_data_flows_exactly() -> None:
    x = randn(5, 2)
    for t, s in [(999, 0), (499, 19), (30, 1)]:
        x0, eps = gaussian(x, at(t), 0.0)
        exact = at(s)[1] / at(t)[1] * x
        assert worst(ddim(x0, eps, *at(s)) - exact) <= 1e-12


@pytest.mark.parametrize(
    ("t", "s", "error"),
    [(999, 979, 1.8e-5), (499, 479, 3.1e-4), (999, 499, 6.5e-2), (259, 0, 0.27)],
)
def test_exact_eps_is_not_the_exact_flow(t: int, s: int, error: float) -> None:
    x = randn(5, 2)
    x0, eps = gaussian(x, at(t), 0.7)
    exact = (variance(at(s), 0.7) / variance(at(t), 0.7)).sqrt() * x
    assert worst(ddim(x0, eps, *at(s)) / exact - 1) == pytest.approx(error, rel=0.03)


def steps_error(h: float, c: float = 0.7, start: float = -1.0) -> tuple[float, float]:
    """One-step errors of TCF(1) and TCF(2) over a step h of half log-SNR."""
    t, m, s = at_lambda(start), at_lambda(start + h / 2), at_lambda(start + h)
    x = torch.ones(1, 1, dtype=torch.float64)
    exact = (variance(s, c) / variance(t, c)).sqrt()
    x0_t, eps_t = gaussian(x, t, c)
    x0_m, _ = gaussian(ddim(x0_t, eps_t, *m), m, c)
    first = ddim(x0_t, eps_t, *s) - exact
    return first.abs().item(), (second_order_step(x, x0_t, x0_m, t, m, s) - exact).abs().item()


def test_orders_of_tcf1_and_tcf2() -> None:
    coarse, fine = steps_error(0.02), steps_error(0.01)
    assert coarse[0] / fine[0] == pytest.approx(4, rel=0.05)
    assert coarse[1] / fine[1] == pytest.approx(8, rel=0.05)


@pytest.mark.parametrize(
    ("start", "end", "gain"), [(999, 0, 0.5), (999, 499, 0.5), (499, 259, 0.2)]
)
def test_tcf2_with_rounded_middle_beats_tcf1(start: int, end: int, gain: float) -> None:
    x, c = torch.ones(1, 1, dtype=torch.float64), 0.7
    t, s = torch.tensor([start]), torch.tensor([end])
    m = SD.halfway(t, s)
    exact = (variance(at(s), c) / variance(at(t), c)).sqrt()
    x0_t, eps_t = gaussian(x, at(t), c)
    x0_m, _ = gaussian(ddim(x0_t, eps_t, *at(m)), at(m), c)
    second = second_order_step(x, x0_t, x0_m, at(t), at(m), at(s))
    assert worst(second - exact) < gain * worst(ddim(x0_t, eps_t, *at(s)) - exact)


def test_halfway_lies_strictly_inside() -> None:
    t = torch.arange(4, 1000).repeat_interleave(3)
    s = torch.stack([torch.zeros(996), (t[::3] // 2), t[::3] - 2]).T.flatten().long()
    m = SD.halfway(t, s)
    assert bool(((s < m) & (m < t)).all())
    assert SD.halfway(torch.tensor([5]), torch.tensor([4])).tolist() == [5]
    lam = (SD.alphas / SD.sigmas).log()
    far = t - s > 200  # there the nearest time is not clamped
    off = (lam[m] - (lam[t] + lam[s]) / 2).abs()
    assert off[far].max() < 0.1


@pytest.mark.parametrize("end", [CLEAN, 0, 499, 998])
def test_a_second_order_jump_from_pure_noise_is_of_first_order(end: int) -> None:
    """Zero terminal SNR: the log-SNR there is infinite, and 0 / 0 would be NaN."""
    squared = torch.linspace(0.99, 0.0, 1000, dtype=torch.float64)
    process = NoiseProcess.from_alphas_cumprod(squared)
    x, x0, x0_m = (randn(3, 2, seed=i) for i in range(3))  # all of x is noise
    t, s = torch.full((3,), 999), torch.full((3,), end)
    jump = second_order_jump(process, x, x0, x, t, s, lambda x_m, m: x0_m)
    torch.testing.assert_close(jump, ddim(x0, x, *process.alpha_sigma(s, x)))


def test_effective_eps_gives_a_semigroup() -> None:
    c, x = 0.7, randn(4, 2)

    def f(x: torch.Tensor, t: int, s: int) -> torch.Tensor:
        (alpha_t, sigma_t), (alpha_s, sigma_s) = at(t), at(s)
        ratio = (variance(at(s), c) / variance(at(t), c)).sqrt()
        eps = (ratio - alpha_s / alpha_t) / (sigma_s - alpha_s * sigma_t / alpha_t) * x
        return ddim((x - sigma_t * eps) / alpha_t, eps, alpha_s, sigma_s)

    known = {(999, 979, 499): 2.9e-10, (499, 479, 0): 4.6e-8, (259, 239, 119): 2.7e-7}
    for (t, u, s), size in known.items():
        assert worst(f(f(x, t, u), u, s) - f(x, t, s)) <= 1e-10
        # Small with the DDIM solver, not zero; relative to the mean square of x.
        x0, eps = gaussian(x, at(t), c)
        loss = (f(ddim(x0, eps, *at(u)), u, s) - f(x, t, s)).pow(2).mean()
        assert size / 5 < (loss / x.pow(2).mean()).item() < 5 * size


def tcd_step(x0: torch.Tensor, eps: torch.Tensor, z: torch.Tensor, p: int, gamma: float,
             process: NoiseProcess) -> torch.Tensor:  # fmt: skip
    s = gamma_end(torch.tensor([p]), gamma)
    return renoise(ddim(x0, eps, *at(s, process)), z, *transition(*at(s, process), *at(p, process)))


def test_gamma_one_is_consistency_sampling_iff_the_end_is_clean() -> None:
    x0, eps, z = randn(4, 2), randn(4, 2, seed=1), randn(4, 2, seed=2)
    squared = SD.alphas**2
    clean = NoiseProcess.from_alphas_cumprod(torch.cat([torch.ones(1), squared[1:]]).double())
    lcm = clean.add_noise(x0, z, torch.full((4,), 499))
    assert worst(tcd_step(x0, eps, z, 499, 1.0, clean) - lcm) <= 1e-12
    difference = SD.add_noise(x0, z, torch.full((4,), 499)) - tcd_step(x0, eps, z, 499, 1.0, SD)
    assert worst(difference - (1.39e-4 * z - 0.01537 * eps)) < 2e-5


@pytest.mark.parametrize("gamma", [0.0, 0.2, 0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("p", [979, 499, 259, 19])
def test_every_gamma_preserves_variance(gamma: float, p: int) -> None:
    s = gamma_end(torch.tensor([p]), gamma)
    r, b = transition(*at(s), *at(p))
    assert (r**2 * at(s)[1] ** 2 + b**2 - at(p)[1] ** 2).abs().item() <= 4e-16
    assert (r * at(s)[0] - at(p)[0]).abs().item() <= 4e-16


def test_gamma_is_not_eta() -> None:
    _, b = transition(*at(0), *at(499))
    (alpha_t, sigma_t), (alpha_p, sigma_p) = at(999), at(499)
    eta_one = sigma_p / sigma_t * (1 - (alpha_t / alpha_p) ** 2).sqrt()
    assert b.item() == pytest.approx(0.8498, abs=1e-4)
    assert eta_one.item() == pytest.approx(0.8447, abs=1e-4)


def test_tcd_to_the_clean_end_is_lcm_up_to_the_skip_terms() -> None:
    x, x0, eps = randn(49, 2), randn(49, 2, seed=1), randn(49, 2, seed=2)
    times = torch.tensor(solver_grid(50)[:-1])  # the target's times of j >= 1
    f = consistency_function(x, x0, times)
    assert worst(f - ddim(x0, eps, *at(CLEAN))) < 4e-5
    assert worst(f - ddim(x0, eps, *at(0))) > 1e-2  # index 0 keeps sigma_0 eps


@pytest.mark.parametrize(("low", "high"), [(0, 999), (124, 249), (CLEAN, 500)])
def test_renoising_has_the_right_marginal(low: int, high: int) -> None:
    (alpha_e, sigma_e), (alpha, sigma) = at(low), at(high)
    r, b = transition(alpha_e, sigma_e, alpha, sigma)
    assert (r * alpha_e - alpha).abs().item() <= 1e-15
    assert ((r * sigma_e) ** 2 + b**2 - sigma**2).abs().item() <= 4e-16


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0])
def test_flow_matching_rules(gamma: float) -> None:
    flow = NoiseProcess.flow()
    p = torch.tensor([750.0], dtype=torch.float64)
    s = gamma_end(p, gamma)
    r, b = transition(*at(s, flow), *at(p, flow))
    assert (r * at(s, flow)[0] - 0.25).abs().item() <= 2e-16
    assert ((r * at(s, flow)[1]) ** 2 + b**2 - 0.75**2).abs().item() <= 4e-16
    x, v = randn(3, 2), randn(3, 2, seed=1)
    x0, eps = x0_eps(v, x, *at(900.0, flow), "flow")
    assert worst(ddim(x0, eps, *at(s, flow)) - (x - (0.9 - s.item() / 1000) * v)) <= 1e-15
