"""The trained parts that families share, as `train` leaves them in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from diffusers import AutoencoderKL
from torch import nn
from transformers import CLIPTextModel, PreTrainedTokenizerFast

from distillbench.errors import BadInput
from distillbench.tiny_training.towers import LENGTH
from distillbench.tiny_training.vae import LATENT_CHANNELS as CHANNELS

__all__ = ["CHANNELS", "SIDE", "autoencoder", "need", "part", "tokenizer", "tower"]

SIDE: Final = 8


def need(folder: Path, *made_by: str) -> Path:
    """The folder. Raises BadInput when it is not there yet."""
    if not folder.exists():
        raise BadInput(f"{folder} is missing; train {' and '.join(made_by)} first")
    return folder


def autoencoder(out: Path) -> AutoencoderKL:
    """The autoencoder of all picture families; its settings suit each of their pipelines."""
    vae = AutoencoderKL.from_pretrained(need(out / "tiny-sd" / "vae", "vae"))
    vae.register_to_config(shift_factor=0.0)  # that of SD3 adds it, and cannot add nothing
    return vae.eval().requires_grad_(False)


def tower(out: Path) -> CLIPTextModel:
    """The first text tower."""
    folder = need(out / "tiny-sd" / "text_encoder", "text")
    return CLIPTextModel.from_pretrained(folder).eval().requires_grad_(False)


def tokenizer(out: Path, *, length: int = LENGTH) -> PreTrainedTokenizerFast:
    """The tokenizer of all families, cut to `length` tokens."""
    words = PreTrainedTokenizerFast.from_pretrained(need(out / "tiny-sd" / "tokenizer", "text"))
    words.model_max_length = length
    return words


def part(out: Path, name: str, kind: Any) -> nn.Module:
    """A part that several families have and tiny-sd has not."""
    folder = need(out / "parts" / name, name)
    loaded: nn.Module = kind.from_pretrained(folder).eval().requires_grad_(False)
    return loaded
