"""Identities of the re-noising kernel, weights and surrogates (TDM, DMD2), in float64."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import CogVideoXDDIMScheduler

from distillbench.core.grid import lower_bounds
from distillbench.core.loss import (
    abs_mean_normalizer,
    gradient_surrogate,
    importance_weight,
    min_snr,
    pseudo_huber,
    sample_mean,
    squared_error,
)
from distillbench.core.parameterization import guided, x0_eps
from distillbench.core.process import CLEAN, NoiseProcess
from distillbench.core.schedules import shifted_nodes
from distillbench.core.solve import (
    ddim,
    mixed_noise,
    renoise,
    transition,
)

SD = NoiseProcess.scaled_linear()
FLOW = NoiseProcess.flow()
Pair = tuple[torch.Tensor, torch.Tensor]


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def at(t: float | torch.Tensor, process: NoiseProcess = SD) -> Pair:
    return process.alpha_sigma(t, torch.empty(1, 1, dtype=torch.float64))


def worst(difference: torch.Tensor) -> float:
    return difference.abs().max().item()


@pytest.mark.parametrize("process", [SD, FLOW], ids=["vp", "flow"])
@pytest.mark.parametrize(("m", "tau"), [(750, 900), (500, 500), (0, 300), (CLEAN, 20)])
def test_kernel_equals_mixed_noise(process: NoiseProcess, m: int, tau: int) -> None:
    x0, eps, noise = randn(4, 3), randn(4, 3, seed=1), randn(4, 3, seed=2)
    at_m, (alpha, sigma) = at(m, process), at(tau, process)
    r, b = transition(*at_m, alpha, sigma)
    x_tau = renoise(ddim(x0, eps, *at_m), noise, r, b)
    mixed = mixed_noise(eps, noise, r, b, at_m[1], sigma)
    assert worst(x_tau - (alpha * x0 + sigma * mixed)) <= 1e-12
    if m == tau:
        assert b.item() == 0


def test_kernels_compose() -> None:
    m, t, tau = at(250), at(499), at(900)
    (r1, b1), (r2, b2), (r, b) = transition(*m, *t), transition(*t, *tau), transition(*m, *tau)
    assert (r1 * r2 - r).abs().item() <= 1e-14
    assert ((r2 * b1) ** 2 + b2**2 - b**2).abs().item() <= 1e-14


@pytest.mark.parametrize(
    ("process", "m"), [(SD, CLEAN), (FLOW, CLEAN), (FLOW, 0)], ids=["vp", "flow", "flow at 0"]
)
def test_clean_source_has_no_importance(process: NoiseProcess, m: int) -> None:
    """Where sigma_m = 0 the mixed noise is the fresh one, and TDM's weight is 1."""
    eps, noise = randn(4, 3), randn(4, 3, seed=1)
    clean, tau = at(m, process), at(300, process)
    r, b = transition(*clean, *tau)
    mixed = mixed_noise(eps, noise, r, b, clean[1], tau[1])
    assert torch.allclose(mixed, noise, rtol=1e-15, atol=0)
    weight = importance_weight(mixed, noise)
    assert torch.allclose(weight, torch.ones(4, dtype=torch.float64), rtol=1e-14, atol=0)


def test_marginal_of_the_kernel() -> None:
    for m, tau in [(750, 900), (500, 600), (0, 300)]:
        (_, sigma_m), (_, sigma) = at(m), at(tau)
        r, b = transition(*at(m), *at(tau))
        unit = ((r * sigma_m) ** 2 + b**2) / sigma**2  # variance of mixed for unit eps
        assert unit.item() == pytest.approx(1, abs=1e-14)


@pytest.mark.parametrize(
    ("u", "m", "gain"),
    [(999, 750, 0.1705), (749, 500, 0.3173), (499, 250, 0.4667), (249, 0, 0.9575)],
)
def test_chain_rule(u: int, m: int, gain: float) -> None:
    x_u, x0, v = randn(3, 2), randn(3, 2, seed=1).requires_grad_(), randn(3, 2, seed=2)
    (alpha_u, sigma_u), (alpha_m, sigma_m) = at(u), at(m)
    x_m = ddim(x0, (x_u - alpha_u * x0) / sigma_u, alpha_m, sigma_m)
    (v * x_m).sum().backward()  # type: ignore[no-untyped-call]
    c = alpha_m - alpha_u * sigma_m / sigma_u
    assert x0.grad is not None
    assert worst(x0.grad - c * v) <= 1e-14
    assert c.item() == pytest.approx(gain, abs=5e-5)


def test_chain_rule_on_cogvideox_nodes() -> None:
    """TDM's released nodes on the shifted schedule of CogVideoX-2B, whose last alpha is 0."""
    scheduler = CogVideoXDDIMScheduler(rescale_betas_zero_snr=True, snr_shift_scale=3.0)
    process = NoiseProcess.from_alphas_cumprod(scheduler.alphas_cumprod.double())
    assert process.alphas[999].item() == 0
    nodes = shifted_nodes(4, 2.0)
    gains = []
    for u, m in zip(nodes, lower_bounds(nodes), strict=True):
        (alpha_u, sigma_u), (alpha_m, sigma_m) = at(u, process), at(m, process)
        gains.append((alpha_m - alpha_u * sigma_m / sigma_u).item())
    assert gains == pytest.approx([0.0483, 0.1128, 0.2728, 0.9752], abs=5e-5)


@pytest.mark.parametrize("kind", ["vector", "element", "mse"])
def test_equal_scores_give_exactly_zero(kind: str) -> None:
    x0 = randn(4, 8).requires_grad_()
    real = randn(4, 8, seed=1)
    target, weight = (x0 + (real - real)).detach(), 1 / abs_mean_normalizer(x0, real)
    if kind == "mse":
        loss = squared_error(x0, target, weight)
    else:
        loss = pseudo_huber(x0, target, 1e-3, form=kind, weight=weight)  # type: ignore[arg-type]
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert x0.grad is not None
    assert torch.equal(x0.grad, torch.zeros_like(x0))


def test_guidance_of_equal_scores_leaves_its_own_term() -> None:
    """D = x0_real - x0_fake = (g - 1)(x0_cond - x0_uncond) where the fake score is the teacher."""
    cond, uncond = randn(4, 8), randn(4, 8, seed=1)
    assert worst(guided(cond, uncond, 3.5) - cond - 2.5 * (cond - uncond)) <= 1e-14
    scale = torch.tensor([1.0, 2.0, 3.0, 8.0], dtype=torch.float64)
    expected = (scale - 1)[:, None] * (cond - uncond)
    assert worst(guided(cond, uncond, scale) - cond - expected) <= 1e-14


def test_the_normalizer_is_clamped_and_carries_no_gradient() -> None:
    x0 = randn(2, 3, 4).requires_grad_()
    weight = abs_mean_normalizer(x0, x0.detach())
    assert weight.shape == (2, 1, 1)
    assert weight.flatten().tolist() == [1e-5, 1e-5]
    assert not abs_mean_normalizer(x0, randn(2, 3, 4, seed=1)).requires_grad


def dmd_gradient(x: torch.Tensor, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    return (fake - real) / abs_mean_normalizer(x, real)


def test_dmd_surrogate() -> None:
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


@pytest.mark.parametrize(("m", "tau"), [(750, 850), (250, 400)])
@pytest.mark.parametrize(("n", "d"), [(4000, 1024), (600, 16384)])
def test_importance_weight_in_high_dimension(m: int, tau: int, n: int, d: int) -> None:
    """Standard deviation sqrt((1 - (b / sigma)^2) / d) and mean 1 + O(1 / d)."""
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


def test_weight_depends_on_the_mixed_noise_alone() -> None:
    noise = randn(3, 10)
    flipped = importance_weight(noise.flip(1), noise)
    assert torch.allclose(flipped, torch.ones(3, dtype=torch.float64), rtol=1e-14)
    assert torch.equal(importance_weight(noise, noise), torch.ones(3, dtype=torch.float64))
    bigger = importance_weight(2 * noise, noise)
    assert torch.allclose(bigger, (-1.5 * sample_mean(noise**2)).exp(), rtol=1e-14)


def test_weighted_errors_agree_between_parameterisations() -> None:
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


def test_flow_form_of_the_weight() -> None:
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


def test_pseudo_huber() -> None:
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


@pytest.mark.parametrize("form", ["vector", "element"])
def test_second_derivative_of_the_huber_distance_at_zero_is_1_over_c(form: str) -> None:
    c, small = 1e-3, torch.full((1, 1), 1e-9, dtype=torch.float64)
    assert (huber_gradient(small, c, form) / small).item() == pytest.approx(1 / c, rel=1e-6)


def test_huber_vector_form_averages_over_the_batch_only() -> None:
    r = randn(4, 9)
    expected = ((r.norm(dim=1) ** 2 + 0.01).sqrt() - 0.1).mean()
    assert pseudo_huber(r, torch.zeros_like(r), 0.1, form="vector").item() == pytest.approx(
        expected.item(), rel=1e-14
    )


def test_tdm_mse_is_twice_dmd2() -> None:
    real, fake = randn(4, 8, seed=1), randn(4, 8, seed=2)
    x0 = randn(4, 8).requires_grad_()
    weight = 1 / abs_mean_normalizer(x0, real)
    target = (x0 + (real - fake)).detach()
    (tdm,) = torch.autograd.grad(squared_error(x0, target, weight), x0)
    (dmd2,) = torch.autograd.grad(gradient_surrogate(x0, dmd_gradient(x0, real, fake)), x0)
    assert worst(tdm - 2 * dmd2) <= 1e-15
    (huber,) = torch.autograd.grad(pseudo_huber(x0, target, 1e-9, weight=weight), x0)
    assert worst(huber + (real - fake).sign() * weight / x0.numel()) <= 1e-9


@pytest.mark.parametrize("tau", [20, 300, 979])
def test_one_step_is_dmd2_up_to_the_noise_at_time_0(tau: int) -> None:
    """With K = 1 and m = 0; on VP r sigma_0 eps + (b - sigma) n is left, on flow nothing."""
    x0, eps, noise = randn(4, 3), randn(4, 3, seed=1), randn(4, 3, seed=2)
    for process in (FLOW, SD):
        (alpha_0, sigma_0), (alpha, sigma) = at(0, process), at(tau, process)
        r, b = transition(alpha_0, sigma_0, alpha, sigma)
        x_tau = renoise(ddim(x0, eps, alpha_0, sigma_0), noise, r, b)
        gap = x_tau - process.add_noise(x0, noise, torch.full((4,), tau))
        rest = r * sigma_0 * eps + (b - sigma) * noise
        assert worst(gap - rest) <= 1e-14
        assert worst(rest) <= (0 if process is FLOW else 6 * sigma_0.item())
    assert worst(rest) > 1e-3
    assert sigma_0.item() == pytest.approx(0.0292, abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_tables_never_fall_below_float32(dtype: torch.dtype) -> None:
    like = torch.empty(1, 1, dtype=dtype)
    m = torch.arange(0, 999, 7)
    m, tau = (v.flatten() for v in torch.meshgrid(m, m + 3, indexing="ij"))
    m, tau = m[tau > m], tau[tau > m]
    alpha_m, sigma_m = SD.alpha_sigma(m, like)
    assert alpha_m.dtype == torch.float32
    _, b = transition(alpha_m, sigma_m, *SD.alpha_sigma(tau, like))
    assert bool((b > 0).all())
