"""Reading a diffusers pipeline: its parts, its noise process, and images to latents and back."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Mapping
from typing import Any

import diffusers
import torch
import transformers
from safetensors import SafetensorError
from torch import Tensor

from distillbench.backbones._source import Source
from distillbench.core.process import CLEAN, NoiseProcess
from distillbench.errors import MissingWeights, NotSupported

__all__ = ["ImageCodec", "VideoCodec", "load_pipeline", "process_of"]

CHUNK = 16
TILED_ABOVE = 32


def load_pipeline(
    kind: str, source: Source, device: str, dtype: torch.dtype, options: Mapping[str, Any]
) -> Any:
    """A pipeline of class `kind` on `device`: its VAE in float32, all else in `dtype`.

    Raises:
        MissingWeights: the weights are neither on this disk nor to be fetched, or are broken.
    """
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    folder = source.folder
    try:
        # Its newer name, dtype, would be ignored without a word by the releases before it.
        warnings.filterwarnings("ignore", "`torch_dtype` is deprecated", FutureWarning)
        pipe = getattr(diffusers, kind).from_pretrained(
            source.model if folder is None else folder,
            revision=source.commit or None,
            torch_dtype={"vae": torch.float32, "default": dtype},
            **options,
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        reason = textwrap.shorten(str(error), 120, placeholder=" ...")
        place = (
            "that folder"
            if folder is not None
            else "the hub's local cache, and it is not reachable"
        )
        raise MissingWeights(
            f"no {kind} weights {source} in {place} ({reason})",
            hint="name a folder with the parameter `model`, or fetch the weights beforehand",
        ) from None
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.requires_grad_(False).eval()
    return pipe.to(device)


# ---- noise process ------------------------------------------------------------------------


def process_of(config: Mapping[str, Any]) -> NoiseProcess:
    """The noise process of a scheduler config, in float64.

    Raises:
        NotSupported: an unknown beta schedule.
    """
    total = int(config.get("num_train_timesteps", 1000))
    if "shift" in config and "beta_start" not in config:
        return NoiseProcess.flow(total)
    squared = torch.cumprod(1.0 - _betas(config, total), 0)
    if "snr_shift_scale" in config:
        scale = float(config["snr_shift_scale"])
        squared = squared / (scale + (1.0 - scale) * squared)
    if config.get("rescale_betas_zero_snr", False):
        squared = _zero_terminal_snr(squared)
    final = CLEAN if config.get("set_alpha_to_one", True) else 0
    return NoiseProcess.from_alphas_cumprod(squared, final=final)


def _betas(config: Mapping[str, Any], total: int) -> Tensor:
    if config.get("trained_betas") is not None:
        return torch.tensor(config["trained_betas"], dtype=torch.float64)
    schedule = config.get("beta_schedule", "linear")
    start, end = float(config.get("beta_start", 1e-4)), float(config.get("beta_end", 0.02))
    if schedule == "linear":
        return torch.linspace(start, end, total, dtype=torch.float64)
    if schedule == "scaled_linear":
        return torch.linspace(start**0.5, end**0.5, total, dtype=torch.float64) ** 2
    raise NotSupported(f"beta schedule {schedule!r}; supported are linear, scaled_linear")


def _zero_terminal_snr(squared: Tensor) -> Tensor:
    """alpha_T = 0 with alpha_0 kept (arXiv 2305.08891, algorithm 1)."""
    roots = squared.sqrt()
    first, last = roots[0].clone(), roots[-1].clone()
    return ((roots - last) * first / (first - last)) ** 2


# ---- latents ------------------------------------------------------------------------------


class ImageCodec:
    """An AutoencoderKL in float32 over uint8 images, a few at a time."""

    def __init__(self, vae: Any) -> None:
        self.vae = vae
        self.scale = float(vae.config.scaling_factor)
        self.shift = float(vae.config.get("shift_factor") or 0.0)

    @torch.no_grad()
    def decode(self, x0: Tensor) -> Tensor:
        """uint8 (B, H, W, 3) from latents."""
        latents = x0.float() / self.scale + self.shift
        images = [self.vae.decode(part).sample for part in torch.split(latents, CHUNK)]
        return _to_uint8(torch.cat(images)).permute(0, 2, 3, 1).contiguous()

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Latents (B, C, h, w) of uint8 images: the posterior's mode, no noise added."""
        pixels = images.to(self.vae.device).permute(0, 3, 1, 2).float() / 127.5 - 1.0
        modes = [self.vae.encode(part).latent_dist.mode() for part in torch.split(pixels, CHUNK)]
        return (torch.cat(modes) - self.shift) * self.scale


class VideoCodec:
    """A causal 3-D autoencoder in float32, one video at a time."""

    def __init__(self, vae: Any) -> None:
        self.vae = vae
        self.scale = float(vae.config.scaling_factor)

    @torch.no_grad()
    def decode(self, x0: Tensor) -> Tensor:
        """uint8 (B, frames, H, W, 3) from latents (B, f, C, h, w)."""
        latents = x0.float().transpose(1, 2) / self.scale
        # A whole 480 x 720 clip at once would not fit a GPU.
        self.vae.use_tiling = min(latents.shape[-2:]) > TILED_ABOVE
        videos = [self.vae.decode(part).sample for part in torch.split(latents, 1)]
        return _to_uint8(torch.cat(videos)).permute(0, 2, 3, 4, 1).contiguous()


def _to_uint8(pixels: Tensor) -> Tensor:
    return (pixels / 2 + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8)
