"""Real-valued times: identities in float64, derivatives, and the integers' values bit for bit."""

from __future__ import annotations

import pytest
import torch

from distillbench.core.process import CLEAN, NoiseProcess
from distillbench.core.solve import ddim

SD = NoiseProcess.scaled_linear()


def _zero_terminal() -> NoiseProcess:
    roots = SD.alphas
    scaled = (roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])
    return NoiseProcess.from_alphas_cumprod(scaled**2)


PROCESSES = {"sd": SD, "zero terminal": _zero_terminal(), "flow": NoiseProcess.flow()}
VP = ("sd", "zero terminal")
LIKE = torch.empty(1, 1, dtype=torch.float64)


def at(process: NoiseProcess, t: torch.Tensor | float) -> tuple[torch.Tensor, torch.Tensor]:
    alpha, sigma = process.alpha_sigma(t, LIKE)
    return alpha.reshape(-1), sigma.reshape(-1)


@pytest.mark.parametrize("name", VP)
@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_whole_real_times_are_the_integers_bit_for_bit(name: str, precision: torch.dtype) -> None:
    like = torch.empty(1, 1, dtype=precision)
    whole = torch.arange(CLEAN - 2, 1000)
    for given in (torch.float32, torch.float64):
        real = PROCESSES[name].alpha_sigma(whole.to(given), like)
        table = PROCESSES[name].alpha_sigma(whole, like)
        assert torch.equal(real[0], table[0])
        assert torch.equal(real[1], table[1])
    ends = PROCESSES[name].alphas
    assert torch.equal(table[0][3:].flatten(), ends.to(precision))
    assert table[0][:3].flatten().tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("name", PROCESSES)
def test_noise_grows_between_the_integers(name: str) -> None:
    last = 1000.0 if name == "flow" else 999.0
    t = torch.linspace(-1.0 if name != "flow" else 0.0, last, 40_001, dtype=torch.float64)
    alpha, sigma = at(PROCESSES[name], t)
    assert (alpha.diff() < 0).sum() >= len(t) - 10  # near the clean end alpha rounds to 1
    assert (alpha.diff() <= 0).all()
    assert (sigma.diff() >= 0).all()
    log_snr = (alpha / sigma).log()
    assert (log_snr[1:-1].diff() < 0).all()


@pytest.mark.parametrize("name", VP)
def test_variance_is_preserved(name: str) -> None:
    t = torch.rand(10_000, dtype=torch.float64) * 1000 - 1
    alpha, sigma = at(PROCESSES[name], t)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(t), rtol=0, atol=1e-14)


def test_log_snr_is_linear_between_the_integers() -> None:
    alpha, sigma = at(SD, torch.tensor([500.0, 500.25, 501.0], dtype=torch.float64))
    low, quarter, high = (alpha / sigma).log().tolist()
    assert quarter == pytest.approx(0.75 * low + 0.25 * high, rel=1e-13)
    assert low > quarter > high


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("t", [0.5, 1.25, 17.0, 500.0, 500.9, 998.0, 998.5, -0.5])
def test_derivative_is_that_of_finite_differences(name: str, t: float) -> None:
    if name == "flow" and t < 0:
        pytest.skip("flow has no time below 0")
    process, h = PROCESSES[name], 1e-5
    time = torch.tensor([t], dtype=torch.float64)
    _, slopes = torch.func.jvp(
        lambda v: torch.stack(at(process, v)), (time,), (torch.ones_like(time),)
    )
    apart = torch.stack(at(process, time + h)) - torch.stack(at(process, time - h))
    torch.testing.assert_close(slopes, apart / (2 * h), rtol=1e-4, atol=1e-9)
    assert (slopes[0] < 0).all()


@pytest.mark.parametrize("name", PROCESSES)
def test_derivatives_are_finite_at_the_ends(name: str) -> None:
    last = 1000.0 if name == "flow" else 999.0
    t = torch.tensor([CLEAN, 0.0, last], dtype=torch.float64, requires_grad=True)
    alpha, sigma = at(PROCESSES[name], t)
    torch.autograd.backward((alpha + 2 * sigma).sum())
    assert t.grad is not None
    assert t.grad.isfinite().all()
    assert (t.grad[1:].abs() > 0).all()
    assert (name == "flow") == bool(t.grad[0] == 0)


def test_a_step_is_differentiable_in_its_end() -> None:
    x0, eps = torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    s = torch.tensor([400.5, 12.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda t: ddim(x0, eps, *SD.alpha_sigma(t, x0)), s.requires_grad_()
    )


def test_close_times_differ() -> None:
    near, whole = at(SD, 500.9), at(SD, 500.0)
    assert near[0] < whole[0]
    assert near[1] > whole[1]
    assert float(SD.snr(torch.tensor([500.9]))) < float(SD.snr(torch.tensor([500])))


@pytest.mark.parametrize("t", [999.5, 1000.0, 1000])
def test_times_beyond_the_table_are_refused(t: float) -> None:
    with pytest.raises(IndexError):
        at(SD, t)


def test_the_time_halfway_is_between_integers() -> None:
    with pytest.raises(TypeError, match="integer times"):
        SD.halfway(torch.tensor([500.5]), torch.tensor([400.0]))


def test_the_exact_world_answers_at_real_times() -> None:
    from distillbench.backbones._gmm import ExactMixture, exact_prediction, process

    x = torch.randn(4, 2, dtype=torch.float64)
    t, labels = torch.tensor([700.5] * 4, dtype=torch.float64), [torch.arange(4)]
    got = exact_prediction(ExactMixture(), x, t, labels, 1.0)
    alpha, sigma = process().alpha_sigma(t, x)
    torch.testing.assert_close(alpha * got.x0 + sigma * got.eps, x)
    below = exact_prediction(ExactMixture(), x, t.floor(), labels, 1.0)
    assert not torch.allclose(got.eps, below.eps, rtol=1e-6)
