"""A Stable Diffusion with random weights and latents, of any size: for measuring, not for results.

A plug-in (`--plugin benchmarks/random_sd.py`); `make` writes the folder that its `model` names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distillbench.backbones.sd import Sd, SdConfig
from distillbench.core.lazy import torch

__all__ = ["SIZES", "TOKENS", "RandomSd", "make", "unet_config", "word_tokenizer"]

TOKENS = 77
WORDS = {"<pad>": 0, "<start>": 1, "<end>": 2, "<unk>": 3}

SIZES: Mapping[str, Mapping[str, Any]] = {
    "tiny": {"channels": (32, 64), "layers": 1, "text": 64, "side": 8},
    "mid": {"channels": (96, 192, 320), "layers": 2, "text": 256, "side": 16},
    "sd": {"channels": (320, 640, 1280, 1280), "layers": 2, "text": 768, "side": 64},
}
"""Name -> widths of the UNet's levels (.8, 32 and 860 million weights), latents' side, text."""


class RandomSd(Sd):
    """Random weights; its real latents are noise, and any prompt has some."""

    Config = SdConfig
    name = "random-sd"

    def training_latents(self, prompts: Sequence[str], rng: torch.Generator) -> torch.Tensor:
        """Standard normal."""
        return torch.randn(len(prompts), *self.latent_shape, generator=rng)


def unet_config(size: str) -> dict[str, Any]:
    """Arguments of diffusers' UNet: attention on all levels but the last, as Stable Diffusion."""
    told = SIZES[size]
    levels = len(told["channels"])
    return {
        "sample_size": told["side"], "in_channels": 4, "out_channels": 4,
        "block_out_channels": told["channels"], "layers_per_block": told["layers"],
        "down_block_types": ("CrossAttnDownBlock2D",) * (levels - 1) + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (levels - 1),
        "cross_attention_dim": told["text"], "attention_head_dim": 8,
    }  # fmt: skip


def word_tokenizer() -> Any:
    """One that knows no word."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel(WORDS, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        model_max_length=TOKENS,
        pad_token="<pad>",
        bos_token="<start>",
        eos_token="<end>",
        unk_token="<unk>",
    )


def make(size: str, folder: Path) -> None:
    """Write a pipeline of that size, its VAE and text encoder small, and prompts for it."""
    import diffusers
    import transformers
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    told = SIZES[size]
    text = CLIPTextConfig(
        vocab_size=len(WORDS), hidden_size=told["text"], intermediate_size=told["text"],
        num_hidden_layers=1, num_attention_heads=4, max_position_embeddings=TOKENS,
        pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    pipe = StableDiffusionPipeline(
        vae=AutoencoderKL(
            block_out_channels=(32,) * 4, down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=4, layers_per_block=1,
        ),
        text_encoder=CLIPTextModel(text),
        tokenizer=word_tokenizer(),
        unet=UNet2DConditionModel(**unet_config(size)),
        scheduler=DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
            set_alpha_to_one=False, steps_offset=1, timestep_spacing="trailing",
        ),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.save_pretrained(folder)
    (folder / "prompts.txt").write_text("one\ntwo\nthree\nfour\n")
