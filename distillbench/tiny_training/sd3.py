"""tiny-sd3: a StableDiffusion3Pipeline, its transformer trained by flow matching with shift."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from torch import Tensor
from transformers import CLIPTextModelWithProjection, T5EncoderModel

from distillbench.tiny_training import shared
from distillbench.tiny_training.denoise import Family, flow, zeroed
from distillbench.tiny_training.text import WIDTH
from distillbench.tiny_training.towers import LENGTH, T5_WIDTH, projected

__all__ = ["FAMILY", "SHIFT", "build"]

SHIFT: Final = 3.0


def build(*, layers: int = 5, heads: int = 3, patch: int = 1) -> SD3Transformer2DModel:
    """The untrained transformer over 8x8 latents."""
    net = SD3Transformer2DModel(
        sample_size=shared.SIDE,
        patch_size=patch,
        in_channels=shared.CHANNELS,
        out_channels=shared.CHANNELS,
        num_layers=layers,
        attention_head_dim=32,
        num_attention_heads=heads,
        joint_attention_dim=T5_WIDTH,
        caption_projection_dim=32 * heads,
        pooled_projection_dim=2 * WIDTH,
        pos_embed_max_size=shared.SIDE,
        qk_norm="rms_norm",
    )
    zeroed(net, ".norm1.linear", ".norm1_context.linear", "norm_out.linear", "proj_out")
    return net


def assemble(out: Path, transformer: Any) -> StableDiffusion3Pipeline:
    """The trained parts of `out` round a denoiser."""
    words = shared.tokenizer(out)
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=SHIFT),
        vae=shared.autoencoder(out),
        text_encoder=projected(shared.tower(out)),
        tokenizer=words,
        text_encoder_2=shared.part(out, "text-2", CLIPTextModelWithProjection),
        tokenizer_2=words,
        text_encoder_3=shared.part(out, "text-t5", T5EncoderModel),
        tokenizer_3=words,
    )


def condition(pipe: Any, ids: Tensor) -> dict[str, Any]:
    """Both CLIP towers side by side, then T5's tokens; the pooled vectors side by side."""
    ids = ids[:, :LENGTH]
    both = [e(ids, output_hidden_states=True) for e in (pipe.text_encoder, pipe.text_encoder_2)]
    clip = torch.cat([out.hidden_states[-2] for out in both], dim=-1)
    tokens = torch.cat([clip, pipe.text_encoder_3(ids)[0]], dim=-2)
    pooled = torch.cat([out.text_embeds for out in both], dim=-1)
    return {"encoder_hidden_states": tokens, "pooled_projections": pooled}


FAMILY: Final = Family(
    name="tiny-sd3",
    job="sd3",
    needs=("text", "text-2", "text-t5", "inception", "vae"),
    build=build,
    assemble=assemble,
    condition=condition,
    steps=8_000,
    muon_lr=6e-3,
    mixed=True,
    noise=flow(SHIFT),
)
