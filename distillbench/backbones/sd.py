"""Stable Diffusion 1.x and 2.x, and any StableDiffusionPipeline of that shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, PositiveInt

from distillbench.backbones._pipeline import PipelineBackbone, PipelineConfig
from distillbench.backbones.base import Cond
from distillbench.core.lazy import torch

__all__ = ["Sd", "SdConfig"]


class SdConfig(PipelineConfig):
    """Attributes:
    resolution: side of the images in pixels; None is what the network was trained at.
    """

    model: str = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    resolution: PositiveInt | None = None


class Sd(PipelineBackbone):
    """UNet with one CLIP text encoder; predicts eps (1.x, 2.x base) or v (2.x)."""

    Config: ClassVar[type[BaseModel]] = SdConfig
    name = "sd"
    pipeline = "StableDiffusionPipeline"
    published = (4_300_000_000, "CreativeML OpenRAIL-M")
    load_options: ClassVar[Mapping[str, Any]] = {
        "safety_checker": None, "feature_extractor": None, "requires_safety_checker": False,
    }  # fmt: skip

    def _encode(self, prompts: Sequence[str]) -> Cond:
        tokens = self.pipe.encode_prompt(list(prompts), self.device, 1, False)[0]
        return Cond({"tokens": tokens.float()})

    def _arguments(self, x: torch.Tensor, cond: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        return {"encoder_hidden_states": cond["tokens"]}

    def _shape(self) -> tuple[int, ...]:
        config: Any = self.config
        return self._square(config.resolution)
