"""tiny-sdxl: a StableDiffusionXLPipeline, its UNet trained by noise regression."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModelWithProjection

from distillbench.tiny_training import shared
from distillbench.tiny_training.denoise import Family, noise_of
from distillbench.tiny_training.text import WIDTH
from distillbench.tiny_training.towers import LENGTH
from distillbench.tiny_training.unet import build_scheduler

__all__ = ["FAMILY", "build"]

SIZE_WIDTH: Final = 8
PIXELS: Final = 32.0


def build() -> UNet2DConditionModel:
    """The untrained denoiser over 8x8 latents."""
    return UNet2DConditionModel(
        sample_size=shared.SIDE,
        in_channels=shared.CHANNELS,
        out_channels=shared.CHANNELS,
        block_out_channels=(32, 56),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        transformer_layers_per_block=(1, 2),
        cross_attention_dim=2 * WIDTH,
        attention_head_dim=4,  # in diffusers this is the number of heads
        norm_num_groups=8,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=SIZE_WIDTH,
        projection_class_embeddings_input_dim=WIDTH + 6 * SIZE_WIDTH,
    )


def assemble(out: Path, unet: Any) -> StableDiffusionXLPipeline:
    """The trained parts of `out` round a denoiser."""
    words = shared.tokenizer(out)
    return StableDiffusionXLPipeline(
        vae=shared.autoencoder(out),
        text_encoder=shared.tower(out),
        text_encoder_2=shared.part(out, "text-2", CLIPTextModelWithProjection),
        tokenizer=words,
        tokenizer_2=words,
        unet=unet,
        scheduler=build_scheduler(),
        add_watermarker=False,
    )


def condition(pipe: Any, ids: Tensor) -> dict[str, Any]:
    """Both towers side by side, the second's pooled vector, and the picture's own size.

    An empty caption is zeros, as the pipeline has it.
    """
    ids = ids[:, :LENGTH]
    both = [e(ids, output_hidden_states=True) for e in (pipe.text_encoder, pipe.text_encoder_2)]
    tokens = torch.cat([out.hidden_states[-2] for out in both], dim=-1)
    said = (ids[:, 1] != pipe.tokenizer.eos_token_id).to(tokens.dtype)
    sizes = tokens.new_tensor([PIXELS, PIXELS, 0.0, 0.0, PIXELS, PIXELS]).expand(len(ids), 6)
    added = {"text_embeds": both[1].text_embeds * said[:, None], "time_ids": sizes}
    return {
        "encoder_hidden_states": tokens * said[:, None, None], "added_cond_kwargs": added
    }  # fmt: skip


FAMILY: Final = Family(
    name="tiny-sdxl",
    job="sdxl",
    needs=("text", "text-2", "inception", "vae"),
    build=build,
    assemble=assemble,
    condition=condition,
    noise=noise_of(build_scheduler().alphas_cumprod),
)
