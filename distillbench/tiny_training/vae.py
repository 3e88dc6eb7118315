"""tiny-sd's autoencoder: 32x32 RGB to 8x8 latents, trained on L1 + MSE with a small KL term."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from distillbench.tiny_training.loop import Job, bfloat16_products, fit
from distillbench.world.data import training_batch
from distillbench.world.networks import AttributeNet

LATENT_CHANNELS = 12
STEPS = 8000
BATCH = 16
Batch = Callable[[int, int], Tensor]
"""Seed and step -> pictures (N, 3, H, W) or clips (N, 3, F, H, W)."""


def build(channels: int = LATENT_CHANNELS) -> AutoencoderKL:
    """The untrained autoencoder, f=4."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(24, 48, 96),
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=8,
        sample_size=32,
        mid_block_add_attention=False,
    )


def to_tensor(images: NDArray[np.uint8], device: str = "cpu") -> Tensor:
    """(N, 32, 32, 3) uint8 -> (N, 3, 32, 32) floats in [-1, 1], channels last in memory."""
    x = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)
    return x.to(torch.float32).div(127.5).sub(1)


def to_uint8(x: Tensor) -> NDArray[np.uint8]:
    """(N, 3, H, W) floats in [-1, 1] -> (N, H, W, 3) uint8."""
    y = x.detach().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    out: NDArray[np.uint8] = y.permute(0, 2, 3, 1).cpu().numpy()
    return out


def train(
    out: Path, critic: AttributeNet, *, steps: int = STEPS, seed: int = 0, device: str = "cpu"
) -> AutoencoderKL:
    """Train the autoencoder in the stages of `fit_stages`; then the latents are standardised.

    The features are those of `critic`, which is not the judge, so that small shapes stay
    recognisable.
    """
    torch.manual_seed(seed)
    vae = build().to(device).to(memory_format=torch.channels_last)

    def batch(data_seed: int, step: int) -> Tensor:
        return to_tensor(training_batch(data_seed, step, BATCH)[0], device)

    fit_stages(Job(name="vae", out=out, steps=steps, lr=2e-3, seed=seed, device=device, ema=0.998),
               vae, critic, batch)  # fmt: skip
    return standardise(vae)


def fit_stages(
    job: Job, vae: Any, critic: AttributeNet, batch: Batch, *, mixed: bool = False
) -> None:
    """Train an autoencoder by `job` on pixels, then 1/4 as long with a feature loss as well.

    Last comes the decoder alone, 1/4 as long: with the latents fixed it can spend all its
    capacity on what the critic sees. With `mixed` products are computed in bfloat16; weights stay
    in full precision.
    """
    critic = critic.to(job.device).eval().requires_grad_(False)

    def stage(job: Job, weights: Weights, data_seed: int) -> None:
        def loss_of(step: int, generator: torch.Generator) -> Tensor:
            with bfloat16_products(job.device) if mixed else nullcontext():
                return _loss(vae, critic, weights, batch(data_seed, step), generator)

        fit(job, vae, loss_of)

    stage(job, Weights(kl=5e-5), job.seed + 1)
    short = max(1, job.steps // 4)
    second = replace(job, name=f"{job.name}-features", steps=short, lr=job.lr / 2)
    stage(second, Weights(kl=1e-4, features=0.3), job.seed + 30)
    encoder = nn.ModuleList(part for part in (vae.encoder, vae.quant_conv) if part is not None)
    encoder.requires_grad_(False)
    stage(replace(second, name=f"{job.name}-decoder"), Weights(kl=0.0, features=1.0), job.seed + 90)
    encoder.requires_grad_(True)


@dataclass(frozen=True)
class Weights:
    """Weights of the parts of the loss; the pixel part, L1 + 4 MSE, has weight 1."""

    kl: float
    features: float = 0.0


def _loss(
    vae: Any, critic: AttributeNet, weights: Weights, x: Tensor, generator: torch.Generator
) -> Tensor:
    posterior = vae.encode(x).latent_dist
    noise = torch.randn(posterior.mean.shape, generator=generator).to(x.device)
    y = vae.decode(posterior.mean + posterior.std * noise).sample.float()
    kl = posterior.kl().sum() / posterior.mean.numel()
    loss: Tensor = F.l1_loss(y, x) + 4 * F.mse_loss(y, x) + weights.kl * kl
    if weights.features:
        pairs = zip(critic.maps(_frames(x)), critic.maps(_frames(y)), strict=True)
        loss = loss + weights.features * torch.stack([F.mse_loss(b, a) for a, b in pairs]).sum()
    return loss


def _frames(x: Tensor) -> Tensor:
    """Pictures as they are; the frames of clips (N, 3, F, H, W)."""
    return x.transpose(1, 2).flatten(0, 1) if x.ndim == 5 else x


@torch.no_grad()
def standardise(vae: AutoencoderKL, *, count: int = 2048) -> AutoencoderKL:
    """Fold zero mean and unit deviation of every latent channel into the two 1x1 convolutions.

    Stable Diffusion's scaling_factor is one number for all channels; with this it is 1.
    """
    x = to_tensor(training_batch(7, 0, count)[0], str(vae.device))
    mean = torch.cat([vae.encode(part).latent_dist.mean for part in torch.split(x, 256)])
    mu, sigma = mean.mean((0, 2, 3)), mean.std((0, 2, 3))
    before, after = vae.quant_conv, vae.post_quant_conv
    channels = len(mu)
    before.weight[:channels] /= sigma[:, None, None, None]
    before.bias[:channels] = (before.bias[:channels] - mu) / sigma
    before.bias[channels:] -= 2 * sigma.log()
    after.bias += (after.weight[:, :, 0, 0] @ mu[:, None])[:, 0]
    after.weight *= sigma[None, :, None, None]
    vae.register_to_config(scaling_factor=1.0)
    return vae


@torch.no_grad()
def reconstruct(
    vae: AutoencoderKL, images: NDArray[np.uint8], *, batch: int = 256
) -> NDArray[np.uint8]:
    """Encode and decode uint8 pictures."""
    device = str(next(vae.parameters()).device)
    parts = []
    for i in range(0, len(images), batch):
        mean = vae.encode(to_tensor(images[i : i + batch], device)).latent_dist.mean
        parts.append(to_uint8(vae.decode(mean).sample))
    return np.concatenate(parts)


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(N,) peak signal-to-noise ratios in dB of uint8 pictures or clips."""
    squares = np.square(a.astype(np.float64) - b.astype(np.float64))
    error = squares.mean(axis=tuple(range(1, a.ndim)))
    out: NDArray[np.float64] = 10 * np.log10(255**2 / np.maximum(error, 1e-9))
    return out
