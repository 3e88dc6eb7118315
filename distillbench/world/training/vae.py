"""tiny-sd's autoencoder: 32x32 RGB to 8x8 latents, trained on L1 + MSE with a small KL term."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from distillbench.world.data import training_batch
from distillbench.world.networks import AttributeNet
from distillbench.world.training.loop import Job, fit

LATENT_CHANNELS = 8
STEPS = 8000
BATCH = 16
KL_WEIGHTS = (5e-5, 1e-3)  # while learning pixels; while learning features
FEATURE_WEIGHT = 0.3


def build(channels: int = LATENT_CHANNELS) -> AutoencoderKL:
    """The untrained autoencoder, f=4."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
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
    """Train the autoencoder: `steps` on pixels, then 3/8 as many with a feature loss as well.

    The features are those of `critic`, an attribute net with another seed than the judge's, so
    that small shapes stay recognisable. At the end the latents are standardised.
    """
    torch.manual_seed(seed)
    vae = build().to(device, memory_format=torch.channels_last)
    critic = critic.to(device).eval().requires_grad_(False)
    common = {"out": out, "seed": seed, "device": device, "ema": 0.998}
    first = Job(name="vae", steps=steps, lr=2e-3, **common)  # type: ignore[arg-type]
    fit(first, vae, lambda step, generator: _loss(vae, None, seed + 1, step, generator))
    second = Job(name="vae-features", steps=3 * steps // 8, lr=1e-3, **common)  # type: ignore[arg-type]
    fit(second, vae, lambda step, generator: _loss(vae, critic, seed + 30, step, generator))
    return standardise(vae)


def _loss(
    vae: AutoencoderKL,
    critic: AttributeNet | None,
    seed: int,
    step: int,
    generator: torch.Generator,
) -> Tensor:
    x = to_tensor(training_batch(seed, step, BATCH)[0], str(vae.device))
    posterior = vae.encode(x).latent_dist
    noise = torch.randn(posterior.mean.shape, generator=generator).to(x.device)
    y = vae.decode(posterior.mean + posterior.std * noise).sample
    kl = posterior.kl().mean() / posterior.mean[0].numel()
    loss: Tensor = F.l1_loss(y, x) + 4 * F.mse_loss(y, x) + KL_WEIGHTS[critic is not None] * kl
    if critic is not None:
        pairs = zip(critic.maps(x), critic.maps(y), strict=True)
        loss = loss + FEATURE_WEIGHT * torch.stack([F.mse_loss(b, a) for a, b in pairs]).sum()
    return loss


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
    """(N,) peak signal-to-noise ratios in dB of uint8 pictures."""
    error = np.square(a.astype(np.float64) - b.astype(np.float64)).mean(axis=(1, 2, 3))
    out: NDArray[np.float64] = 10 * np.log10(255**2 / np.maximum(error, 1e-9))
    return out
