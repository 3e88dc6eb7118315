"""The one training of all denoisers, against the plain loop it stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from distillbench.tiny_training import bank, cogvideox, denoise, sd3, shared, text, unet, vae
from distillbench.tiny_training.loop import Job, fit
from distillbench.world.data import draws


def _bank() -> bank.Bank:
    rng = torch.Generator().manual_seed(1)
    latents = torch.randn(128, shared.CHANNELS, 8, 8, generator=rng).half()
    captions = draws(0, np.arange(128)).captions()
    return bank.Bank(latents, text.tokens(text.build_tokenizer(), captions).to(torch.uint8))


def _pipeline() -> StableDiffusionPipeline:
    torch.manual_seed(0)
    net = unet.build()
    torch.manual_seed(7)
    return StableDiffusionPipeline(
        vae=vae.build(), text_encoder=text.build_tower().eval().requires_grad_(False),
        tokenizer=text.build_tokenizer(), unet=net, scheduler=unet.build_scheduler(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


class _Stop(Exception):
    pass


def _plainly(pipe: Any, data: bank.Bank, out: Path, *, stop_at: int = -1) -> None:
    """Three steps of noise regression of a UNet, written out."""
    net = pipe.unet.to(memory_format=torch.channels_last)
    alphas = unet.build_scheduler().alphas_cumprod
    weight = (1 / alphas).clamp(max=10)
    empty = text.tokens(pipe.tokenizer, [""])[0]
    job = Job(name="unet", out=out, steps=3, lr=1e-3, ema=0.999, save_every=1)

    def loss_of(step: int, generator: torch.Generator) -> Tensor:
        if step == stop_at:
            raise _Stop
        turn, at = divmod(64 * step, 128)
        rows = torch.from_numpy(np.random.default_rng((0, turn)).permutation(128)[at : at + 64])
        x0, words = data.latents[rows].float(), data.ids[rows].long()
        words[torch.rand(64, generator=generator) < 0.1] = empty
        t = torch.randint(0, 1000, (64,), generator=generator)
        eps = torch.randn(x0.shape, generator=generator)
        a = alphas[t][:, None, None, None]
        x_t = (a.sqrt() * x0 + (1 - a).sqrt() * eps).to(memory_format=torch.channels_last)
        with torch.no_grad():
            states = pipe.text_encoder(words).last_hidden_state
        error = (net(x_t, t, states).sample - eps).square().mean((1, 2, 3))
        loss: Tensor = (weight[t] * error).mean()
        return loss

    fit(job, net, loss_of)


def test_tiny_sd_is_trained_as_the_plain_loop_trains_it(tmp_path: Path) -> None:
    """Also from a checkpoint of the plain loop: trainings that were begun with it go on."""
    plain, ours, resumed = (_pipeline() for _ in range(3))
    _plainly(plain, _bank(), tmp_path / "plain")
    denoise.train(unet.FAMILY, tmp_path / "ours", ours, _bank(), steps=3)
    with pytest.raises(_Stop):
        _plainly(_pipeline(), _bank(), tmp_path / "resumed", stop_at=2)
    _moved(resumed.unet)
    denoise.train(unet.FAMILY, tmp_path / "resumed", resumed, _bank(), steps=3)
    wanted = plain.unet.state_dict()
    for got in (ours.unet.state_dict(), resumed.unet.state_dict()):
        assert got.keys() == wanted.keys()
        assert all(torch.equal(value, wanted[key]) for key, value in got.items())


def _moved(net: torch.nn.Module) -> None:
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1)


def test_a_flow_regression_meets_noise_and_data_at_its_ends() -> None:
    x0 = torch.randn(4096, 2, generator=torch.Generator().manual_seed(0))
    noised = denoise.flow(sd3.SHIFT)(x0, torch.Generator().manual_seed(1))
    s = (noised.t / 1000)[:, None]
    eps = noised.target + x0
    torch.testing.assert_close(noised.x, (1 - s) * x0 + s * eps)
    u = s / (sd3.SHIFT - (sd3.SHIFT - 1) * s)
    assert float(u.median()) == pytest.approx(0.5, abs=0.02)


def test_a_velocity_gives_back_the_data_even_without_signal() -> None:
    alphas = cogvideox.build_scheduler().alphas_cumprod
    assert float(alphas[-1]) == 0
    x0 = torch.randn(512, 3, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    noised = denoise.velocity_of(alphas)(x0, torch.Generator().manual_seed(1))
    a = alphas[noised.t].float().reshape(-1, 1, 1, 1, 1)
    again = a.sqrt() * noised.x - (1 - a).sqrt() * noised.target
    torch.testing.assert_close(again, x0, rtol=1e-4, atol=1e-4)
