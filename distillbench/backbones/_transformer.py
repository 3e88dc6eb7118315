"""What the families share whose network is a diffusion transformer over image tokens."""

from __future__ import annotations

from typing import ClassVar

from distillbench.backbones._layouts import ATTENTION_AND_MLP
from distillbench.backbones._pipeline import PipelineBackbone
from distillbench.core.lazy import torch

__all__ = ["TransformerBackbone"]


class TransformerBackbone(PipelineBackbone):
    """Blocks of one width; tokens are the patches of a latent, row by row."""

    network = "transformer"
    targets: ClassVar[tuple[str, ...]] = ATTENTION_AND_MLP
    costly_text = True

    def _middle(self) -> str:
        return f"transformer_blocks.{len(self.pipe.transformer.transformer_blocks) // 2}"

    def _as_map(self, hidden: torch.Tensor) -> torch.Tensor:
        patch = self.pipe.transformer.config.patch_size
        height, width = (side // patch for side in self.latent_shape[-2:])
        return hidden.transpose(1, 2).reshape(len(hidden), -1, height, width)
