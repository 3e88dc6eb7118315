"""Stable Diffusion XL: two text encoders, a pooled vector and size conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import PositiveInt

from distillbench.backbones._pipeline import PipelineBackbone, PipelineConfig
from distillbench.backbones.base import Cond
from distillbench.core.lazy import torch

__all__ = ["Sdxl", "SdxlConfig"]


class SdxlConfig(PipelineConfig):
    """Attributes:
    resolution: side of the images in pixels; None is what the network was trained at.
    """

    model: str = "stabilityai/stable-diffusion-xl-base-1.0"
    resolution: PositiveInt | None = None


class Sdxl(PipelineBackbone):
    """UNet; original and target size are the image's own, the crop starts at the corner."""

    Config = SdxlConfig
    name = "sdxl"
    pipeline = "StableDiffusionXLPipeline"
    published = (13_900_000_000, "CreativeML OpenRAIL++-M")
    load_options: ClassVar[Mapping[str, Any]] = {"add_watermarker": False}  # alters the pixels

    def _encode(self, prompts: Sequence[str]) -> Cond:
        tokens, _, pooled, _ = self.pipe.encode_prompt(
            list(prompts), device=self.device, do_classifier_free_guidance=False
        )
        side = float(self.latent_shape[-1] * self.pipe.vae_scale_factor)
        sizes = torch.tensor([[side, side, 0.0, 0.0, side, side]], device=self.device)
        return Cond({
            "tokens": tokens.float(),
            "pooled": pooled.float(),
            "time_ids": sizes.repeat(len(prompts), 1),
        })  # fmt: skip

    def encode_null(self) -> Cond:
        """Zeros for text and pooled vector, as the pipeline does for an empty prompt."""
        empty = self.encode([""])
        if not self.pipe.config.force_zeros_for_empty_prompt:
            return empty
        sizes = empty.tensors["time_ids"]
        zeros = {n: torch.zeros_like(v) for n, v in empty.tensors.items() if n != "time_ids"}
        return Cond({**zeros, "time_ids": sizes})

    def _arguments(self, x: torch.Tensor, cond: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        added = {"text_embeds": cond["pooled"], "time_ids": cond["time_ids"]}
        return {"encoder_hidden_states": cond["tokens"], "added_cond_kwargs": added}

    def _shape(self) -> tuple[int, ...]:
        config: Any = self.config
        return self._square(config.resolution)
