"""Reading a diffusers pipeline: its parts, its noise process, and images to latents and back."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from torch import Tensor

from distillbench.backbones._folder import Folder
from distillbench.backbones._kept import KEPT
from distillbench.backbones._layouts import Layout
from distillbench.backbones._parts import fetched, load_parts, readable
from distillbench.backbones._resting import Resting
from distillbench.core.process import CLEAN, NoiseProcess
from distillbench.errors import NotSupported
from distillbench.files.source import UNPINNED, Source
from distillbench.finite import require_finite

__all__ = ["ImageCodec", "VideoCodec", "load_pipeline", "process_of"]

CHUNK = 16
PIXELS = CHUNK * 512 * 512
"""Pixels that go through an autoencoder at once: some 12 GiB of activations in float32."""
TILED_ABOVE = 32


def load_pipeline(
    kind: str,
    source: Source,
    device: str,
    dtype: torch.dtype,
    options: Mapping[str, Any],
    *,
    layout: Layout,
    variant: str,
    check: Callable[[Path], Folder],
) -> Any:
    """A pipeline of class `kind` on `device`: its VAE in float32, all else in `dtype`.

    Weights whose content is known are those of an earlier stage where a worker kept them.

    Args:
        check: refuses a folder whose settings are not honoured, and says what it holds.

    Raises:
        MissingWeights: the weights are neither on this disk nor to be fetched, or are broken.
    """
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    path = fetched(kind, source, variant)
    folder = check(path)

    def read() -> Any:
        with readable(f"{kind} weights {source}", "that folder"):
            dtypes = {"vae": torch.float32, "default": dtype}
            parts = load_parts(path, folder, layout, dtypes, device=device)
            pipe = getattr(diffusers, kind).from_pretrained(
                path, local_files_only=True, **parts, **options
            )
        for part in pipe.components.values():
            if isinstance(part, torch.nn.Module):
                part.requires_grad_(False).eval()
        return pipe

    content = source.revision(unused=options)
    if content.startswith(UNPINNED):
        return read().to(device)
    return KEPT.pipeline((kind, content, variant, device, dtype), read).to(device)


# ---- noise process ------------------------------------------------------------------------


def process_of(config: Mapping[str, Any]) -> NoiseProcess:
    """The noise process of a scheduler config, in float64.

    It ends at the data where the config says `set_alpha_to_one`, else at time 0: schedulers that
    have no such setting (PixArt's DPM-Solver) end there under diffusers' TCD and LCM.

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
    final = CLEAN if config.get("set_alpha_to_one", False) else 0
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
    if schedule == "squaredcos_cap_v2":
        return _cosine_betas(total)
    allowed = "linear, scaled_linear, squaredcos_cap_v2"
    raise NotSupported(f"beta schedule {schedule!r}; supported are {allowed}")


def _cosine_betas(total: int) -> Tensor:
    """Those whose products follow a squared cosine (arXiv 2102.09672, eq. 17), at most 0.999."""
    places = torch.arange(total + 1, dtype=torch.float64) / total
    products = torch.cos((places + 0.008) / 1.008 * math.pi / 2) ** 2
    return (1 - products[1:] / products[:-1]).clamp(max=0.999)


def _zero_terminal_snr(squared: Tensor) -> Tensor:
    """alpha_T = 0 with alpha_0 kept (arXiv 2305.08891, algorithm 1)."""
    roots = squared.sqrt()
    first, last = roots[0].clone(), roots[-1].clone()
    return ((roots - last) * first / (first - last)) ** 2


# ---- latents ------------------------------------------------------------------------------


class _Scale:
    """Between the autoencoder's latents and the network's.

    z = (latent - mean) * scale / std - shift * scale, where the file states mean and deviation of
    each channel; diffusers' pipelines of SDXL and of SD3 have it so.
    """

    def __init__(self, config: Any, rank: int) -> None:
        self.factor = float(config.scaling_factor)
        self.shift = float(config.get("shift_factor") or 0.0)
        mean, std = config.get("latents_mean"), config.get("latents_std")
        self.spread = None
        if mean is not None and std is not None:
            shape = (1, -1, *[1] * (rank - 2))
            self.spread = tuple(torch.tensor(v).float().reshape(shape) for v in (mean, std))

    def out(self, x0: Tensor) -> Tensor:
        """What the decoder takes."""
        if self.spread is None:
            return x0.float() / self.factor + self.shift
        mean, std = (v.to(x0.device) for v in self.spread)
        return x0.float() * std / self.factor + mean

    def into(self, latents: Tensor) -> Tensor:
        """What the network takes."""
        if self.spread is None:
            return (latents - self.shift) * self.factor
        mean, std = (v.to(latents.device) for v in self.spread)
        return (latents - mean) * self.factor / std

    def width(self, deviation: Tensor) -> Tensor:
        """A standard deviation of what the network takes."""
        if self.spread is None:
            return deviation * self.factor
        return deviation * self.factor / self.spread[1].to(deviation.device)


class _Codec:
    """An autoencoder in float32 with the scale of its latents, which have `rank` dimensions."""

    def __init__(self, vae: Any, rank: int) -> None:
        self._resting, self.scale = Resting(vae), _Scale(vae.config, rank)
        self.rest = self._resting.rest

    @property
    def vae(self) -> Any:
        """The autoencoder, on its device."""
        return self._resting.awake()


class ImageCodec(_Codec):
    """An AutoencoderKL over uint8 images, a few at a time."""

    def __init__(self, vae: Any) -> None:
        super().__init__(vae, 4)
        self.factor = 2 ** (len(vae.config.block_out_channels) - 1)

    def _chunk(self, height: int, width: int) -> int:
        """How many images of so many pixels go through the autoencoder at once."""
        return max(1, min(CHUNK, PIXELS // (height * width)))

    @torch.no_grad()
    def decode(self, x0: Tensor) -> Tensor:
        """uint8 (B, H, W, 3) from latents. Raises StageFailed where a value is not finite."""
        latents = self.scale.out(require_finite(x0, "latents"))
        chunk = self._chunk(*(side * self.factor for side in latents.shape[-2:]))
        images = [self.vae.decode(part).sample for part in torch.split(latents, chunk)]
        return _to_uint8(torch.cat(images)).permute(0, 2, 3, 1).contiguous()

    @torch.no_grad()
    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean, which is the mode, and deviation of latents (B, C, h, w) of uint8 images.

        Raises:
            StageFailed: one is not finite.
        """
        pixels = images.to(self.vae.device).permute(0, 3, 1, 2).float() / 127.5 - 1.0
        parts = torch.split(pixels, self._chunk(*pixels.shape[-2:]))
        laws = [self.vae.encode(part).latent_dist for part in parts]
        mean = self.scale.into(torch.cat([law.mode() for law in laws]))
        deviation = self.scale.width(torch.cat([law.std for law in laws]))
        return require_finite(mean, "latents of pictures"), deviation


class VideoCodec(_Codec):
    """A causal 3-D autoencoder, one video at a time."""

    def __init__(self, vae: Any) -> None:
        super().__init__(vae, 5)

    @torch.no_grad()
    def decode(self, x0: Tensor) -> Tensor:
        """uint8 (B, frames, H, W, 3) from latents (B, f, C, h, w); raises as `ImageCodec` does."""
        latents = self.scale.out(require_finite(x0, "latents").transpose(1, 2))
        # A whole 480 x 720 clip at once would not fit a GPU.
        self.vae.use_tiling = min(latents.shape[-2:]) > TILED_ABOVE
        videos = [self.vae.decode(part).sample for part in torch.split(latents, 1)]
        return _to_uint8(torch.cat(videos)).permute(0, 2, 3, 4, 1).contiguous()

    @torch.no_grad()
    def encode(self, clips: Tensor) -> Tensor:
        """Latents (B, f, C, h, w) of uint8 clips (B, frames, H, W, 3): the posterior's mode.

        Raises:
            StageFailed: one is not finite.
        """
        pixels = clips.to(self.vae.device).permute(0, 4, 1, 2, 3).float() / 127.5 - 1.0
        modes = [self.vae.encode(part).latent_dist.mode() for part in torch.split(pixels, CHUNK)]
        latents = self.scale.into(torch.cat(modes)).transpose(1, 2)
        return require_finite(latents, "latents of clips")


def _to_uint8(pixels: Tensor) -> Tensor:
    pixels = require_finite(pixels, "decoded pixels")
    return (pixels / 2 + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8)
