"""tiny-sd: a StableDiffusionPipeline, its UNet trained by noise regression."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor

from distillbench.tiny_training import shared
from distillbench.tiny_training.denoise import Family, noise_of
from distillbench.tiny_training.text import WIDTH
from distillbench.world.captions import MAX_WORDS

__all__ = ["FAMILY", "build", "build_scheduler"]


def build(channels: int = shared.CHANNELS) -> UNet2DConditionModel:
    """The untrained denoiser over 8x8 latents."""
    return UNet2DConditionModel(
        sample_size=shared.SIDE,
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


def build_scheduler(**other: Any) -> DDIMScheduler:
    """Stable Diffusion's noise schedule with trailing time steps."""
    settings: dict[str, Any] = {
        "num_train_timesteps": 1000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "prediction_type": "epsilon",
        "timestep_spacing": "trailing",
        "steps_offset": 1,  # trailing spacing ignores it; diffusers warns about any other value
    }
    return DDIMScheduler(**(settings | other))


def assemble(out: Path, unet: Any) -> StableDiffusionPipeline:
    """The trained parts of `out` round a denoiser."""
    return StableDiffusionPipeline(
        vae=shared.autoencoder(out),
        text_encoder=shared.tower(out),
        tokenizer=shared.tokenizer(out, length=MAX_WORDS),
        unet=unet,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def condition(pipe: Any, ids: Tensor) -> dict[str, Any]:
    """The tower's last states."""
    return {"encoder_hidden_states": pipe.text_encoder(ids).last_hidden_state}


FAMILY: Final = Family(
    name="tiny-sd",
    job="unet",
    needs=("text", "inception", "vae"),
    build=build,
    assemble=assemble,
    condition=condition,
    noise=noise_of(build_scheduler().alphas_cumprod),
    steps=20_000,
)
