"""tiny-pixart: a PixArtAlphaPipeline, its diffusion transformer trained by noise regression."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from diffusers import DDIMScheduler, PixArtAlphaPipeline, PixArtTransformer2DModel
from torch import Tensor
from transformers import T5EncoderModel

from distillbench.tiny_training import shared
from distillbench.tiny_training.denoise import Family, noise_of, zeroed
from distillbench.tiny_training.towers import LENGTH, T5_WIDTH
from distillbench.tiny_training.unet import build_scheduler

__all__ = ["FAMILY", "build", "linear_scheduler"]


def build(*, layers: int = 6, heads: int = 3, patch: int = 1) -> PixArtTransformer2DModel:
    """The untrained transformer over 8x8 latents; it learns no variance."""
    net = PixArtTransformer2DModel(
        num_attention_heads=heads,
        attention_head_dim=32,
        in_channels=shared.CHANNELS,
        out_channels=shared.CHANNELS,
        num_layers=layers,
        cross_attention_dim=32 * heads,
        sample_size=shared.SIDE,
        patch_size=patch,
        caption_channels=T5_WIDTH,
        use_additional_conditions=False,
    )
    zeroed(net, "attn2.to_out.0", "proj_out")
    return net


def linear_scheduler() -> DDIMScheduler:
    """The schedule of DDPM (arXiv 2006.11239), which PixArt was trained on, to the data."""
    return build_scheduler(
        beta_start=1e-4, beta_end=0.02, beta_schedule="linear", set_alpha_to_one=True
    )


def assemble(out: Path, transformer: Any) -> PixArtAlphaPipeline:
    """The trained parts of `out` round a denoiser."""
    return PixArtAlphaPipeline(
        tokenizer=shared.tokenizer(out),
        text_encoder=shared.part(out, "text-t5", T5EncoderModel),
        vae=shared.autoencoder(out),
        transformer=transformer,
        scheduler=linear_scheduler(),
    )


def condition(pipe: Any, ids: Tensor) -> dict[str, Any]:
    """T5's tokens, padding hidden from both networks."""
    ids = ids[:, :LENGTH]
    mask = (ids != pipe.tokenizer.pad_token_id).long()
    return {
        "encoder_hidden_states": pipe.text_encoder(ids, attention_mask=mask)[0],
        "encoder_attention_mask": mask,
        "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
    }


FAMILY: Final = Family(
    name="tiny-pixart",
    job="pixart",
    needs=("text", "text-t5", "inception", "vae"),
    build=build,
    assemble=assemble,
    condition=condition,
    steps=10_000,
    muon_lr=6e-3,
    mixed=True,
    noise=noise_of(linear_scheduler().alphas_cumprod),
)
