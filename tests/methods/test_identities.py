"""Identities of the papers asked of the very losses that train: what they equal, what they find."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from distillbench.api import registry
from distillbench.core.matching import Renoised, fake_loss, renoised
from distillbench.core.process import NoiseProcess
from distillbench.methods.lcm import LCM, LCMConfig

SD = NoiseProcess.scaled_linear()


def output(x: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x * 0.7 + 0.1 * label) + 0.2 * x


def randn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---- LCM ----------------------------------------------------------------------------------


@pytest.mark.parametrize("distance", ["l2", "huber"])
def test_the_first_loss_is_the_teachers_own_inconsistency(
    toy: Any, make_role: Any, distance: Any
) -> None:
    method = LCM(LCMConfig(teacher_guidance=(1, 1), distance=distance), toy(output))
    method.bind({"student": make_role("student", output)})
    backbone = method.backbone
    batch = backbone.batch(64, randn(64, 2, seed=0))
    index = batch.randint(0, 50, "index")
    t = 20 * index + 19
    u = (t - 20).clamp(min=0)
    x_t = backbone.process.add_noise(batch.latents, batch.randn("noise"), t)
    at_t = backbone.predict(None, x_t, t, batch.cond)
    alpha_u, sigma_u = backbone.process.alpha_sigma(u, x_t)
    x_u = alpha_u * at_t.x0 + sigma_u * at_t.eps
    at_u = torch.where((u == 0)[:, None], x_u, backbone.predict(None, x_u, u, batch.cond).x0)
    gap = at_t.x0 - at_u
    expected = (gap**2).mean() if distance == "l2" else ((gap**2 + 1e-6).sqrt() - 1e-3).mean()
    loss = method.loss("student", batch, 0).total
    assert float(loss) > 1e-4
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    "name", [n for n in registry.METHODS.names() if n not in ("teacher", "pretrained")]
)
def test_adapters_are_scaled_by_one_unless_asked(name: str) -> None:
    method = registry.build_method(name, {}, registry.build_backbone("gmm", {}))
    opts = [spec.opts for spec in method.nets().values() if spec.kind == "lora"]
    assert opts
    assert all(o["alpha"] == o["rank"] for o in opts)


# ---- the fake score -----------------------------------------------------------------------


def at_boundary(tau: int) -> tuple[Renoised, torch.Tensor]:
    """A linear student whose state at 500 has a Gaussian teacher's very marginal, in 1-D."""
    like, variance, n = torch.zeros(1, dtype=torch.float64), 0.6, 400_000
    (a_u, s_u), (a_m, s_m) = (SD.alpha_sigma(t, like) for t in (749, 500))
    std_u, std_m = ((a**2 * variance + s**2).sqrt() for a, s in ((a_u, s_u), (a_m, s_m)))
    x_u = std_u * randn(n, 1, seed=1)
    x0 = (std_m / std_u - s_m / s_u) / (a_m - a_u * s_m / s_u) * x_u
    eps, times = (x_u - a_u * x0) / s_u, torch.full((n,), tau)
    m = torch.full_like(times, 500)
    return renoised(SD, x0, eps, m, times, randn(n, 1, seed=2)), x0


@pytest.mark.parametrize(
    ("tau", "options", "slope"),
    [
        (600, {"target": "x0", "weighted": False}, 0.1872),
        (600, {"target": "dsm"}, 0.2571),  # the teacher's: only this leaves the student alone
        (680, {"target": "x0", "weighted": True}, 0.0201),
    ],
)
def test_what_each_fake_loss_is_smallest_at(
    toy: Any, make_role: Any, tau: int, options: Any, slope: float
) -> None:
    at, x0 = at_boundary(tau)
    backbone, gain = toy(output), torch.zeros((), dtype=torch.float64, requires_grad=True)
    fake = make_role("fake", lambda x, t, c: gain * x)

    def gradient(value: float) -> torch.Tensor:
        with torch.no_grad():
            gain.fill_(value)
        pred = backbone.predict(fake, at.x_tau, at.tau, backbone.batch(1).cond)
        loss, _ = fake_loss(SD, pred.x0, pred.eps, at, x0, **options)
        return torch.autograd.grad(loss, gain)[0]

    zero, one = gradient(0.0), gradient(1.0)  # the loss is a parabola in the gain
    best = zero / (zero - one)
    alpha, sigma = SD.alpha_sigma(tau, x0)
    assert one > zero
    assert float((1 - sigma * best) / alpha) == pytest.approx(slope, abs=7e-3)


def test_the_fake_loss_is_a_clipped_error_of_the_mixed_noise(toy: Any, make_role: Any) -> None:
    tau = torch.randint(20, 990, (64,), generator=torch.Generator().manual_seed(0))
    x0, eps, noise = (randn(64, 2, seed=s) for s in range(3))
    at = renoised(SD, x0, eps, torch.zeros_like(tau), tau, noise)
    backbone = toy(output)
    batch = backbone.batch(64)
    x0_psi = backbone.predict(make_role("fake", output), at.x_tau, tau, batch.cond)
    loss, _ = fake_loss(SD, x0_psi.x0, x0_psi.eps, at, x0, weighted=False)
    pred = backbone.predict(None, at.x_tau, tau, batch.cond).eps
    clipped = (5 / SD.snr(tau)).clamp(max=1)
    assert float(clipped.min()) < 0.5
    expected = (clipped * ((pred - at.eps_mix) ** 2).mean(1)).mean()
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", ["vp", "flow"])
@pytest.mark.parametrize(("m", "tau"), [(500, 700), (0, 300)])
def test_renoised_samples_have_the_forward_marginal(kind: str, m: int, tau: int) -> None:
    process = NoiseProcess.flow() if kind == "flow" else SD
    n, mean, variance = 400_000, 0.3, 0.6
    x0 = mean + variance**0.5 * randn(n, 1, seed=3)
    times = torch.full((n,), tau)
    noises = randn(n, 1, seed=4), randn(n, 1, seed=5)
    at = renoised(process, x0, noises[0], torch.full_like(times, m), times, noises[1])
    alpha, sigma = (float(v) for v in process.alpha_sigma(tau, x0))
    assert float(at.x_tau.mean()) == pytest.approx(alpha * mean, abs=5e-3)
    assert float(at.x_tau.var()) == pytest.approx(alpha**2 * variance + sigma**2, abs=1e-2)
    assert float((at.eps_mix**2).mean()) == pytest.approx(1, abs=1e-2)
