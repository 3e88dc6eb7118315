"""tiny-sd's denoiser, trained by noise regression on cached latents with 10 % empty captions.

The network predicts the noise (arXiv 2006.11239); dropping captions makes classifier-free
guidance possible (arXiv 2207.12598).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextModel, PreTrainedTokenizerFast

from distillbench.tiny_training.loop import Job, fit
from distillbench.tiny_training.text import WIDTH, tokens
from distillbench.tiny_training.vae import to_tensor
from distillbench.world.data import training_batch

STEPS = 24000
BATCH = 64
DROPOUT = 0.1
BANK_SHARDS = 16
SHARD = 16384
Rows = NDArray[np.int64]


def build(channels: int) -> UNet2DConditionModel:
    """The untrained denoiser over 8x8 latents."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=(64, 96),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,  # in diffusers this is the number of heads
        norm_num_groups=8,
    )


def build_scheduler() -> DDIMScheduler:
    """Stable Diffusion's noise schedule with trailing time steps."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        prediction_type="epsilon",
        timestep_spacing="trailing",
        steps_offset=1,  # trailing spacing ignores it; diffusers warns about any other value
    )


def assemble(
    vae: AutoencoderKL,
    tower: CLIPTextModel,
    tokenizer: PreTrainedTokenizerFast,
    unet: UNet2DConditionModel,
) -> StableDiffusionPipeline:
    """The parts as one Stable Diffusion pipeline."""
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=tower,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@torch.no_grad()
def encode_shard(
    out: Path, shard: int, vae: AutoencoderKL, tokenizer: PreTrainedTokenizerFast, *, seed: int = 10
) -> Path:
    """Cache the latents (fp16) and token ids (uint8) of one shard of the training stream."""
    path = out / "latents" / f"{shard:03d}.safetensors"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    device = str(next(vae.parameters()).device)
    latents, ids = [], []
    for step in range(SHARD // 256):
        images, captions = training_batch(seed, shard * (SHARD // 256) + step, 256)
        mean = vae.encode(to_tensor(images, device)).latent_dist.mean
        latents.append((mean * vae.config.scaling_factor).half().cpu().contiguous())
        ids.append(tokens(tokenizer, captions).to(torch.uint8))
    partial = path.with_suffix(".tmp")
    save_file({"latents": torch.cat(latents), "ids": torch.cat(ids)}, str(partial))
    partial.replace(path)
    return path


def train(
    out: Path,
    vae: AutoencoderKL,
    tower: CLIPTextModel,
    tokenizer: PreTrainedTokenizerFast,
    *,
    steps: int = STEPS,
    seed: int = 0,
    device: str = "cpu",
) -> UNet2DConditionModel:
    """Train the denoiser on a bank of up to 262,144 latents; the text tower stays frozen."""
    torch.manual_seed(seed)
    unet = build(vae.config.latent_channels).to(device, memory_format=torch.channels_last)
    count = min(BANK_SHARDS, -(-steps * BATCH // SHARD))
    shards = [load_file(encode_shard(out, i, vae, tokenizer)) for i in range(count)]
    latents = torch.cat([s["latents"] for s in shards])
    ids = torch.cat([s["ids"] for s in shards])
    empty = tokens(tokenizer, [""])[0]
    alphas = build_scheduler().alphas_cumprod
    weight = loss_weight(alphas)
    job = Job(name="unet", out=out, steps=steps, lr=1e-3, seed=seed, device=device, ema=0.999)

    def loss_of(step: int, generator: torch.Generator) -> Tensor:
        rows = torch.from_numpy(_rows(seed, step, len(latents)))
        x0, words = latents[rows].float(), ids[rows].long()
        words[torch.rand(BATCH, generator=generator) < DROPOUT] = empty
        t = torch.randint(0, 1000, (BATCH,), generator=generator)
        eps = torch.randn(x0.shape, generator=generator)
        a = alphas[t][:, None, None, None]
        x_t = (a.sqrt() * x0 + (1 - a).sqrt() * eps).to(device, memory_format=torch.channels_last)
        with torch.no_grad():
            text = tower(words.to(device)).last_hidden_state
        error = (unet(x_t, t.to(device), text).sample - eps.to(device)).square().mean((1, 2, 3))
        loss: Tensor = (weight[t].to(device) * error).mean()
        return loss

    return fit(job, unet, loss_of)


def loss_weight(alphas: Tensor) -> Tensor:
    """Weights of the noise error at each time: 1 + 1/SNR, at most 10.

    That is the SNR + 1 weighting of the clean picture (arXiv 2202.00512, section 4). The plain
    noise error is nearly all in the last, least noisy steps, where shapes are already decided.
    """
    weight: Tensor = (1 / alphas).clamp(max=10)
    return weight


def _rows(seed: int, step: int, count: int) -> Rows:
    """Rows of the bank for one step: each pass over the bank is in a new random order."""
    turn, at = divmod(step * BATCH, count)
    return _order(seed, turn, count)[at : at + BATCH]


@lru_cache(maxsize=1)
def _order(seed: int, turn: int, count: int) -> Rows:
    return np.random.default_rng((seed, turn)).permutation(count)
