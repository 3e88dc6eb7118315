"""Identities of the re-noising kernel, weights and surrogates (TDM, DMD2), in float64."""

from __future__ import annotations

import math

import pytest
import torch

from distillbench.core.grid import lower_bounds, tau_ranges
from distillbench.core.loss import (
    abs_mean_normalizer,
    gradient_surrogate,
    importance_weight,
    matching_direction,
    min_snr,
    pseudo_huber,
    sample_mean,
    squared_error,
)
from distillbench.core.predict import x0_eps
from distillbench.core.process import CLEAN, NoiseProcess
from distillbench.core.solve import ddim, mixed_noise, renoise, transition
from distillbench.sample.schedules import shifted_nodes, tdm_nodes

SD = NoiseProcess.scaled_linear()
FLOW = NoiseProcess.flow()
Pair = tuple[torch.Tensor, torch.Tensor]


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def at(t: float | torch.Tensor, process: NoiseProcess = SD) -> Pair:
    return process.alpha_sigma(t, torch.empty(1, 1, dtype=torch.float64))


def worst(difference: torch.Tensor) -> float:
    return difference.abs().max().item()


# ---- grids ------------------------------------------------------------------------------


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


# ---- kernel -----------------------------------------------------------------------------


@pytest.mark.parametrize("process", [SD, FLOW], ids=["vp", "flow"])
@pytest.mark.parametrize(("m", "tau"), [(750, 900), (500, 500), (0, 300), (CLEAN, 20)])
def test_03_04_kernel_equals_mixed_noise(process: NoiseProcess, m: int, tau: int) -> None:
    x0, eps, noise = randn(4, 3), randn(4, 3, seed=1), randn(4, 3, seed=2)
    at_m, (alpha, sigma) = at(m, process), at(tau, process)
    r, b = transition(*at_m, alpha, sigma)
    x_tau = renoise(ddim(x0, eps, *at_m), noise, r, b)
    mixed = mixed_noise(eps, noise, r, b, at_m[1], sigma)
    assert worst(x_tau - (alpha * x0 + sigma * mixed)) <= 1e-12
    if m == tau:
        assert b.item() <= 1e-8


def test_03_04_kernels_compose() -> None:
    m, t, tau = at(250), at(499), at(900)
    (r1, b1), (r2, b2), (r, b) = transition(*m, *t), transition(*t, *tau), transition(*m, *tau)
    assert (r1 * r2 - r).abs().item() <= 1e-14
    assert ((r2 * b1) ** 2 + b2**2 - b**2).abs().item() <= 1e-14


@pytest.mark.parametrize("process", [SD, FLOW], ids=["vp", "flow"])
def test_03_04_clean_source_has_no_importance(process: NoiseProcess) -> None:
    eps, noise = randn(4, 3), randn(4, 3, seed=1)
    clean, tau = at(CLEAN, process), at(300, process)
    r, b = transition(*clean, *tau)
    mixed = mixed_noise(eps, noise, r, b, clean[1], tau[1])
    assert torch.allclose(mixed, noise, rtol=1e-15, atol=0)
    assert torch.equal(importance_weight(noise, noise), torch.ones(4, dtype=torch.float64))


def test_03_05_marginal_of_the_kernel() -> None:
    for m, tau in [(750, 900), (500, 600), (0, 300)]:
        (_, sigma_m), (_, sigma) = at(m), at(tau)
        r, b = transition(*at(m), *at(tau))
        unit = ((r * sigma_m) ** 2 + b**2) / sigma**2  # variance of mixed for unit eps
        assert unit.item() == pytest.approx(1, abs=1e-14)


@pytest.mark.parametrize(
    ("u", "m", "gain"),
    [(999, 750, 0.1705), (749, 500, 0.3173), (499, 250, 0.4667), (249, 0, 0.9575)],
)
def test_03_06_chain_rule(u: int, m: int, gain: float) -> None:
    x_u, x0, v = randn(3, 2), randn(3, 2, seed=1).requires_grad_(), randn(3, 2, seed=2)
    (alpha_u, sigma_u), (alpha_m, sigma_m) = at(u), at(m)
    x_m = ddim(x0, (x_u - alpha_u * x0) / sigma_u, alpha_m, sigma_m)
    (v * x_m).sum().backward()  # type: ignore[no-untyped-call]
    c = alpha_m - alpha_u * sigma_m / sigma_u
    assert x0.grad is not None
    assert worst(x0.grad - c * v) <= 1e-14
    assert c.item() == pytest.approx(gain, abs=5e-5)


# ---- losses -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["vector", "element", "mse"])
def test_03_07_equal_scores_give_exactly_zero(kind: str) -> None:
    x0 = randn(4, 8).requires_grad_()
    real = randn(4, 8, seed=1)
    direction = matching_direction(real, randn(4, 8, seed=2), real, 1.0)
    assert torch.equal(direction, torch.zeros_like(direction))
    target, weight = (x0 + direction).detach(), 1 / abs_mean_normalizer(x0, real)
    if kind == "mse":
        loss = squared_error(x0, target, weight)
    else:
        loss = pseudo_huber(x0, target, 1e-3, form=kind, weight=weight)  # type: ignore[arg-type]
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert x0.grad is not None
    assert torch.equal(x0.grad, torch.zeros_like(x0))


def test_03_07_guidance_is_the_pure_term() -> None:
    cond, uncond = randn(4, 8), randn(4, 8, seed=1)
    assert torch.equal(matching_direction(cond, uncond, cond, 3.5), 2.5 * (cond - uncond))
    scale = torch.tensor([1.0, 2.0, 3.0, 8.0], dtype=torch.float64)
    expected = (scale - 1)[:, None] * (cond - uncond)
    assert torch.equal(matching_direction(cond, uncond, cond, scale), expected)


def test_the_normalizer_is_clamped_and_carries_no_gradient() -> None:
    x0 = randn(2, 3, 4).requires_grad_()
    weight = abs_mean_normalizer(x0, x0.detach())
    assert weight.shape == (2, 1, 1)
    assert weight.flatten().tolist() == [1e-5, 1e-5]
    assert not abs_mean_normalizer(x0, randn(2, 3, 4, seed=1)).requires_grad


def dmd_gradient(x: torch.Tensor, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    return (fake - real) / abs_mean_normalizer(x, real)


def test_03_08_dmd_surrogate() -> None:
    x, real, fake = randn(5, 6).requires_grad_(), randn(5, 6, seed=1), randn(5, 6, seed=2)
    grad = dmd_gradient(x, real, fake)
    loss = gradient_surrogate(x, grad)
    loss.backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert worst(x.grad * x.numel() - grad) <= 1e-14
    assert loss.item() == pytest.approx(0.5 * (grad**2).mean().item(), rel=1e-12)
    assert worst(dmd_gradient(7 * x, 7 * real, 7 * fake) - grad) <= 1e-12
    alone = torch.cat(
        [dmd_gradient(x[i : i + 1], real[i : i + 1], fake[i : i + 1]) for i in range(5)]
    )
    assert worst(alone - grad) <= 1e-15


def test_03_09_gaussian_gradients() -> None:
    alpha, sigma, mean, square, m, sd = 0.8, 0.6, 0.3, 0.5, 0.7, 0.6
    total, own = alpha**2 * square + sigma**2, alpha**2 * sd**2 + sigma**2
    x0, noise = randn(400_000, 1), randn(400_000, 1, seed=1)
    x_tau = alpha * (m + sd * x0) + sigma * noise
    # The scores' difference is (alpha / sigma^2) D, with exact denoisers of both Gaussians.
    x0_real = mean + alpha * square / total * (x_tau - alpha * mean)
    x0_fake = m + alpha * sd**2 / own * (x_tau - alpha * m)
    direction = matching_direction(x0_real, x0_real, x0_fake, 1.0)
    gap = -(alpha / sigma**2) * direction  # s_fake - s_real
    assert gap.mean().item() == pytest.approx(alpha * (m - mean) / total, abs=4e-3)
    assert alpha * (m - mean) / total == pytest.approx(0.47059, abs=1e-5)
    assert (alpha * gap).mean().item() == pytest.approx(0.37647, abs=4e-3)
    assert (alpha * gap * x0).mean().item() == pytest.approx(-0.08570, abs=6e-3)


@pytest.mark.parametrize(("m", "tau"), [(750, 850), (250, 400)])
def test_03_12_importance_weight_in_high_dimension(m: int, tau: int) -> None:
    n, d = 4000, 1024
    (_, sigma_m), (_, sigma) = at(m), at(tau)
    r, b = transition(*at(m), *at(tau))
    eps, noise = randn(n, d), randn(n, d, seed=1)
    mixed = mixed_noise(eps, noise, r, b, sigma_m, sigma)
    weight = importance_weight(mixed, noise)
    share = (b / sigma).item()
    expected = math.sqrt((1 - share**2) / d)
    assert weight.std().item() == pytest.approx(expected, rel=0.1)
    assert weight.std().item() <= 1.05 / math.sqrt(d)
    assert abs(weight.mean().item() - 1) < 1 / d + 3 * expected / math.sqrt(n)
    # Forgetting sigma_m on eps, as an early release did, gives exp(-SNR / 2).
    assert abs(weight.mean().item() - math.exp(-0.5 * SD.snr(torch.tensor([tau])).item())) > 0.01


def test_03_12_weight_depends_on_the_mixed_noise_alone() -> None:
    noise = randn(3, 10)
    flipped = importance_weight(noise.flip(1), noise)
    assert torch.allclose(flipped, torch.ones(3, dtype=torch.float64), rtol=1e-14)
    bigger = importance_weight(2 * noise, noise)
    assert torch.allclose(bigger, (-1.5 * sample_mean(noise**2)).exp(), rtol=1e-14)


def test_03_13_weighted_errors_agree_between_parameterisations() -> None:
    x0, mixed, out = randn(50, 6), randn(50, 6, seed=1), randn(50, 6, seed=2)
    tau = torch.randint(20, 990, (50,), generator=torch.Generator().manual_seed(0))
    alpha, sigma = at(tau)
    x_tau = alpha * x0 + sigma * mixed
    pred_x0, pred_eps = x0_eps(out, x_tau, alpha, sigma, "v_prediction")
    snr = (alpha / sigma).flatten() ** 2
    by_x0 = min_snr(snr) * sample_mean((pred_x0 - x0) ** 2)
    by_eps = torch.minimum(torch.ones(50), 5 / snr) * sample_mean((pred_eps - mixed) ** 2)
    by_v = min_snr(snr) / (snr + 1) * sample_mean((out - (alpha * mixed - sigma * x0)) ** 2)
    assert torch.allclose(by_x0, by_eps, rtol=1e-11)
    assert torch.allclose(by_x0, by_v, rtol=1e-11)
    assert torch.allclose(SD.snr(tau).double(), snr, rtol=1e-6)
    assert squared_error(pred_x0, x0, min_snr(snr)).item() == pytest.approx(by_x0.mean().item())


def test_03_13_flow_form_of_the_weight() -> None:
    x0, noise, v = randn(20, 4), randn(20, 4, seed=1), randn(20, 4, seed=2)
    sigma = torch.linspace(0.02, 0.98, 20, dtype=torch.float64)[:, None]
    x = (1 - sigma) * x0 + sigma * noise
    pred, _ = x0_eps(v, x, 1 - sigma, sigma, "flow")
    snr = ((1 - sigma) / sigma).flatten() ** 2
    by_v = torch.minimum((1 - sigma) ** 2, 5 * sigma**2).flatten()
    error = sample_mean((v - (x - x0) / sigma) ** 2)
    assert torch.allclose(min_snr(snr) * sample_mean((pred - x0) ** 2), by_v * error, rtol=1e-10)


def huber_gradient(r: torch.Tensor, c: float, form: str) -> torch.Tensor:
    r = r.clone().requires_grad_()
    loss = pseudo_huber(r, torch.zeros_like(r), c, form=form)  # type: ignore[arg-type]
    (grad,) = torch.autograd.grad(loss, r)
    return grad


def test_03_14_pseudo_huber() -> None:
    r = randn(1, 164)
    r = r / r.norm() * 12.8
    value = pseudo_huber(r, torch.zeros_like(r), 1e3, form="vector")
    assert (2e3 * value / r.norm() ** 2).item() == pytest.approx(0.99996, abs=1e-5)
    for c in (1e-6, 1e-3, 1.0):
        assert huber_gradient(r, c, "vector").norm().item() <= 1
        assert (huber_gradient(r, c, "element") * r.numel()).abs().max().item() <= 1
    assert huber_gradient(r, 1e-6, "vector").norm().item() == pytest.approx(1, abs=1e-10)
    zero = torch.zeros(1, 3, dtype=torch.float64)
    for form in ("vector", "element"):
        assert pseudo_huber(zero, zero, 1e-3, form=form).item() == 0
        assert torch.equal(huber_gradient(zero, 1e-3, form), zero)


def test_03_14_second_derivative_at_zero_is_1_over_c() -> None:
    c, small = 1e-3, torch.full((1, 1), 1e-9, dtype=torch.float64)
    assert (huber_gradient(small, c, "vector") / small).item() == pytest.approx(1 / c, rel=1e-6)


def test_huber_vector_form_averages_over_the_batch_only() -> None:
    r = randn(4, 9)
    expected = ((r.norm(dim=1) ** 2 + 0.01).sqrt() - 0.1).mean()
    assert pseudo_huber(r, torch.zeros_like(r), 0.1, form="vector").item() == pytest.approx(
        expected.item(), rel=1e-14
    )


def test_03_16_tdm_mse_is_twice_dmd2() -> None:
    real, fake = randn(4, 8, seed=1), randn(4, 8, seed=2)
    x0 = randn(4, 8).requires_grad_()
    weight = 1 / abs_mean_normalizer(x0, real)
    target = (x0 + matching_direction(real, real, fake, 1.0)).detach()
    (tdm,) = torch.autograd.grad(squared_error(x0, target, weight), x0)
    (dmd2,) = torch.autograd.grad(gradient_surrogate(x0, dmd_gradient(x0, real, fake)), x0)
    assert worst(tdm - 2 * dmd2) <= 1e-15
    (huber,) = torch.autograd.grad(pseudo_huber(x0, target, 1e-9, weight=weight), x0)
    assert worst(huber + (real - fake).sign() * weight / x0.numel()) <= 1e-9


def test_03_17_one_step_is_dmd2() -> None:
    x0, eps, noise = randn(4, 3), randn(4, 3, seed=1), randn(4, 3, seed=2)
    for process, bound in ((FLOW, 1e-15), (SD, 0.2)):
        lower = at(0, process)
        x_tau = renoise(ddim(x0, eps, *lower), noise, *transition(*lower, *at(300, process)))
        dmd2 = process.add_noise(x0, noise, torch.full((4,), 300))
        assert worst(x_tau - dmd2) <= bound
    assert worst(x_tau - dmd2) > 1e-3  # on VP a residual of the order of sigma_0 = .0292 stays
    assert at(0)[1].item() == pytest.approx(0.0292, abs=1e-4)


# ---- what the fake score estimates ------------------------------------------------------


class LinearStudent:
    """x0 = A x_u in one dimension, A such that x_m has exactly the teacher's marginal."""

    data = 0.6

    def __init__(self, u: int, m: int, tau: int) -> None:
        (alpha_u, sigma_u), (alpha_m, sigma_m), self.at_tau = at(u), at(m), at(tau)
        self.std_u = (alpha_u**2 * self.data + sigma_u**2).sqrt()
        self.k = (alpha_m**2 * self.data + sigma_m**2).sqrt()
        gain = alpha_m - alpha_u * sigma_m / sigma_u
        self.a = (self.k / self.std_u - sigma_m / sigma_u) / gain
        self.c = self.a * self.std_u
        self.at_u, self.at_m = (alpha_u, sigma_u), (alpha_m, sigma_m)
        self.r, self.b = transition(*self.at_m, *self.at_tau)

    def draw(self, n: int) -> tuple[torch.Tensor, ...]:
        """(x_u, x0, noise, x_tau, eps_mix), each (n, 1)."""
        x_u, noise = self.std_u * randn(n, 1, seed=3), randn(n, 1, seed=4)
        x0 = self.a * x_u
        eps = (x_u - self.at_u[0] * x0) / self.at_u[1]
        x_tau = renoise(ddim(x0, eps, *self.at_m), noise, self.r, self.b)
        mixed = mixed_noise(eps, noise, self.r, self.b, self.at_m[1], self.at_tau[1])
        return x_u, x0, noise, x_tau, mixed

    def slopes(self) -> dict[str, float]:
        """x0 = slope * x_tau of the teacher and of the three fake scores."""
        alpha, sigma = self.at_tau
        law = self.r**2 * self.k**2 + self.b**2
        return {
            "teacher": (alpha * self.data / (alpha**2 * self.data + sigma**2)).item(),
            "a": (self.c * self.r * self.k / law).item(),
            "b": ((1 - sigma**2 / law) / alpha).item(),
            "c": (alpha * self.c**2 / (alpha**2 * self.c**2 + sigma**2)).item(),
        }


def fit(x: torch.Tensor, y: torch.Tensor, weight: torch.Tensor | float = 1.0) -> float:
    return float((weight * x * y).sum() / (weight * x * x).sum())


def test_03_10_three_fake_scores() -> None:
    student = LinearStudent(749, 500, 600)
    slopes = student.slopes()
    assert [slopes[k] for k in ("teacher", "a", "b", "c")] == pytest.approx(
        [0.2571, 0.1872, 0.2571, 0.0280], abs=1e-4
    )
    _, x0, noise, x_tau, _ = student.draw(1_000_000)
    alpha, sigma = student.at_tau
    assert fit(x_tau, x0) == pytest.approx(slopes["a"], abs=5e-3)
    eps_slope = fit(x_tau, sigma * noise / student.b)
    assert (1 - sigma.item() * eps_slope) / alpha.item() == pytest.approx(slopes["b"], abs=5e-3)


def test_03_10_exact_importance_sampling_gives_the_clean_score() -> None:
    student = LinearStudent(749, 500, 680)  # b / sigma = .85: the weight has finite variance
    _, x0, noise, x_tau, mixed = student.draw(1_000_000)
    weight = importance_weight(mixed, noise)[:, None]  # d = 1: the mean is the sum
    slope = fit(x_tau, x0, weight)
    assert student.slopes()["c"] == pytest.approx(0.0201, abs=1e-4)
    assert slope == pytest.approx(student.slopes()["c"], abs=5e-3)


def test_03_11_only_the_kernels_own_score_leaves_a_perfect_student_alone() -> None:
    student = LinearStudent(749, 500, 600)
    slopes = student.slopes()
    x_u, _, _, x_tau, _ = student.draw(1_000_000)
    for kind in ("a", "b", "c"):
        gap = slopes["teacher"] - slopes[kind]
        pull = (
            matching_direction(
                slopes["teacher"] * x_tau, slopes["teacher"] * x_tau, slopes[kind] * x_tau, 1.0
            )
            * x_u
        )  # D times dx0 / dA
        expected = gap * (student.r * student.k * student.std_u).item()
        error = 3 * pull.std().item() / 1000
        assert pull.mean().item() == pytest.approx(expected, abs=error + 1e-12)
        assert (abs(expected) < 1e-10) == (kind == "b")


# ---- precision --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_03_23_tables_never_fall_below_float32(dtype: torch.dtype) -> None:
    like = torch.empty(1, 1, dtype=dtype)
    m = torch.arange(0, 999, 7)
    m, tau = (v.flatten() for v in torch.meshgrid(m, m + 3, indexing="ij"))
    m, tau = m[tau > m], tau[tau > m]
    alpha_m, sigma_m = SD.alpha_sigma(m, like)
    assert alpha_m.dtype == torch.float32
    _, b = transition(alpha_m, sigma_m, *SD.alpha_sigma(tau, like))
    assert bool((b > 0).all())
