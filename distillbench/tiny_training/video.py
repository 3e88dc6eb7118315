"""tiny-cogvideox's autoencoder: clips of nine 32x32 frames to 3x8x8 latents, causal in time."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import torch
from diffusers import AutoencoderKLCogVideoX
from torch import Tensor

from distillbench.tiny_training.loop import Job
from distillbench.tiny_training.vae import fit_stages
from distillbench.world.clips import Clips, clip_batch
from distillbench.world.networks import AttributeNet

__all__ = [
    "CHANNELS", "FRAMES_BY_LATENT", "build", "reconstruct", "to_clips", "train",
    "unit_deviation",
]  # fmt: skip

CHANNELS: Final = 16
FRAMES_BY_LATENT: Final = 4
STEPS: Final = 3000
BATCH: Final = 8


def build() -> AutoencoderKLCogVideoX:
    """The untrained autoencoder: 4 x 4 pixels and, after the first, four frames a latent."""
    return AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 3,
        up_block_types=("CogVideoXUpBlock3D",) * 3,
        block_out_channels=(16, 24, 32),
        layers_per_block=1,
        latent_channels=CHANNELS,
        norm_num_groups=8,
        temporal_compression_ratio=FRAMES_BY_LATENT,
        sample_height=32,
        sample_width=32,
    )


def to_clips(frames: Clips, device: str = "cpu") -> Tensor:
    """(N, F, 32, 32, 3) uint8 -> (N, 3, F, 32, 32) floats in [-1, 1]."""
    x = torch.from_numpy(frames).to(device).permute(0, 4, 1, 2, 3)
    return x.to(torch.float32).div(127.5).sub(1).contiguous()


def train(
    out: Path, critic: AttributeNet, *, steps: int = STEPS, seed: int = 0, device: str = "cpu"
) -> AutoencoderKLCogVideoX:
    """Train the autoencoder as that of pictures, `critic` looking at single frames."""
    torch.manual_seed(seed)
    net = build().to(device)

    def batch(data_seed: int, step: int) -> Tensor:
        return to_clips(clip_batch(data_seed, step, BATCH)[0], device)

    job = Job(
        name="video-vae", out=out, steps=steps, lr=2e-3, seed=seed, device=device, ema=0.998
    )  # fmt: skip
    fit_stages(job, net, critic, batch, mixed=True)
    return unit_deviation(net)


@torch.no_grad()
def unit_deviation(net: AutoencoderKLCogVideoX, *, count: int = 128) -> AutoencoderKLCogVideoX:
    """Fold a deviation of 1 of every latent channel into the convolutions that write or read it.

    Means stay: the decoder pads with zeros, which a shift would move. The layers that might take it
    up (`quant_conv`) diffusers builds with the wrong number of channels.
    """
    x = to_clips(clip_batch(7, 0, count)[0], str(net.device))
    mean = torch.cat([net.encode(part).latent_dist.mean for part in torch.split(x, 64)])
    sigma = mean.std((0, 2, 3, 4))
    written = net.encoder.conv_out.conv
    written.weight[:CHANNELS] /= sigma[:, None, None, None, None]
    written.bias[:CHANNELS] /= sigma
    written.bias[CHANNELS:] -= 2 * sigma.log()
    for name, layer in net.decoder.named_modules():
        if name == "conv_in.conv" or name.endswith((".conv_y.conv", ".conv_b.conv")):
            layer.weight *= sigma[None, :, None, None, None]
    net.register_to_config(scaling_factor=1.0)
    return net


@torch.no_grad()
def reconstruct(net: AutoencoderKLCogVideoX, clips: Clips, *, batch: int = 64) -> Clips:
    """Encode and decode uint8 clips."""
    parts = []
    for i in range(0, len(clips), batch):
        mean = net.encode(to_clips(clips[i : i + batch], str(net.device))).latent_dist.mean
        y = net.decode(mean).sample.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
        parts.append(y.permute(0, 2, 3, 4, 1).cpu().numpy())
    return np.concatenate(parts)
