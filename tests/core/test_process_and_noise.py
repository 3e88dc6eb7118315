"""The noise process's tables against diffusers, and keyed random numbers."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler

from distillbench.core.noise import generator, sample_noise
from distillbench.core.process import CLEAN, NoiseProcess, per_sample

SD = NoiseProcess.scaled_linear()


def test_scaled_linear_is_stable_diffusions_schedule() -> None:
    scheduler = DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False
    )
    theirs = scheduler.alphas_cumprod.double()
    assert torch.allclose(SD.alphas**2, theirs, rtol=2e-6, atol=0)
    x0, eps = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2)
    t = torch.tensor([0, 500, 999])
    expected = scheduler.add_noise(x0, eps, t)
    assert torch.allclose(SD.add_noise(x0, eps, t), expected, rtol=1e-4, atol=1e-5)


def test_known_values() -> None:
    assert SD.alphas[0].item() ** 2 == pytest.approx(0.99915, abs=1e-6)
    assert SD.sigmas[0].item() == pytest.approx(0.029155, abs=1e-6)
    assert SD.alphas[999].item() == pytest.approx(0.068265, abs=1e-6)
    snr = SD.snr(torch.tensor([0, 999]))
    assert snr.tolist() == pytest.approx([1175.5, 0.004682], rel=1e-3)


def test_the_clean_end_is_exact() -> None:
    x = torch.randn(2, 3)
    alpha, sigma = SD.alpha_sigma(CLEAN, x)
    assert (alpha.item(), sigma.item()) == (1.0, 0.0)
    assert torch.equal(SD.add_noise(x, torch.randn(2, 3), CLEAN), x)
    assert SD.snr(torch.tensor([CLEAN])).isinf().all()


@pytest.mark.parametrize("process", [SD, NoiseProcess.flow()], ids=["vp", "flow"])
@pytest.mark.parametrize(
    ("given", "got"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
    ],
)
def test_shapes_and_precision(process: NoiseProcess, given: torch.dtype, got: torch.dtype) -> None:
    like = torch.empty(5, 4, 8, 8, dtype=given)
    alpha, sigma = process.alpha_sigma(torch.arange(5) * 100, like)
    assert alpha.shape == sigma.shape == (5, 1, 1, 1)
    assert alpha.dtype == sigma.dtype == got
    assert process.alpha_sigma(3, like)[0].shape == (1, 1, 1, 1)


def test_flow_takes_real_times() -> None:
    flow = NoiseProcess.flow()
    like = torch.empty(4, 1, dtype=torch.float64)
    t = torch.tensor([1000.0, 750.5, 0.0, CLEAN], dtype=torch.float64)
    alpha, sigma = flow.alpha_sigma(t, like)
    assert sigma.flatten().tolist() == pytest.approx([1.0, 0.7505, 0.0, 0.0], abs=1e-15)
    assert (alpha + sigma).flatten().tolist() == [1.0] * 4


def test_per_sample() -> None:
    like = torch.empty(2, 3, 4)
    assert per_sample(2.0, like).shape == (1, 1, 1)
    assert per_sample(torch.tensor([1, 2]), like).shape == (2, 1, 1)


def test_generators_depend_on_the_whole_key() -> None:
    def draw(*key: int | str) -> float:
        return torch.rand(1, generator=generator(*key)).item()

    keys: list[tuple[int | str, ...]] = [
        (0,),
        (1,),
        ("1",),
        (0, "a"),
        ("a", 0),
        (0, "a", 1),
        (0, "a1"),
        (-1,),
        ("",),
        (),
    ]
    assert len({draw(*key) for key in keys}) == len(keys)
    assert draw(3, "x", 7) == draw(3, "x", 7)


def test_sample_noise_is_independent_of_the_batch() -> None:
    whole = sample_noise(5, range(6), (3, 2), "init")
    assert whole.shape == (6, 3, 2)
    assert whole.dtype == torch.float32
    parts = [sample_noise(5, part, (3, 2), "init") for part in ([4], [5, 0], [1, 2, 3])]
    assert torch.equal(torch.cat(parts), whole[[4, 5, 0, 1, 2, 3]])
    for other in (
        sample_noise(6, range(6), (3, 2), "init"),
        sample_noise(5, range(6), (3, 2), "s"),
    ):
        assert (other != whole).all()


def test_sample_noise_is_standard_normal() -> None:
    x = sample_noise(0, range(2000), (4,), "init")
    assert x.mean().item() == pytest.approx(0, abs=0.04)
    assert x.std().item() == pytest.approx(1, abs=0.03)
    assert torch.corrcoef(x.T).triu(1).abs().max().item() < 0.08
