"""PixArt-alpha: a diffusion transformer with T5 text, linear betas and a learned variance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, PositiveInt

from distillbench.api.backbone import Cond
from distillbench.backbones._fits import equal
from distillbench.backbones._folder import Folder
from distillbench.backbones._layouts import PIXART
from distillbench.backbones._pipeline import PipelineConfig
from distillbench.backbones._transformer import TransformerBackbone
from distillbench.core.lazy import torch

__all__ = ["Pixart", "PixartConfig"]


class PixartConfig(PipelineConfig):
    """Attributes:
    text_length: tokens of a prompt, padding included.
    """

    model: str = "PixArt-alpha/PixArt-XL-2-1024-MS"
    text_length: PositiveInt = 120


class Pixart(TransformerBackbone):
    """eps is the first half of the output's channels; the second is the variance, unused here."""

    Config: ClassVar[type[BaseModel]] = PixartConfig
    name = "pixart"
    pipeline = "PixArtAlphaPipeline"
    layout = PIXART
    learned_variance = True
    published = (21_800_000_000, "CreativeML OpenRAIL++-M")
    time_mlp = "adaln_single.emb.timestep_embedder"

    def call_arguments(self) -> dict[str, Any]:
        """Prompts as they are, at the very size: the pipeline would clean and round them."""
        config: Any = self.config
        return {
            **super().call_arguments(), "negative_prompt": "", "clean_caption": False,
            "use_resolution_binning": False, "max_sequence_length": config.text_length,
        }  # fmt: skip

    def _encode(self, prompts: Sequence[str]) -> Cond:
        config: Any = self.config
        tokens, mask, _, _ = self.pipe.encode_prompt(
            list(prompts), do_classifier_free_guidance=False, device=self.device,
            max_sequence_length=config.text_length,
        )  # fmt: skip
        return Cond({"tokens": tokens.float(), "mask": mask.long()})

    def _arguments(self, x: torch.Tensor, cond: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        added: dict[str, Any] = {"resolution": None, "aspect_ratio": None}
        if self.pipe.transformer.use_additional_conditions:
            height, width = (side * self.pipe.vae_scale_factor for side in x.shape[-2:])
            added["resolution"] = x.new_tensor([[height, width]]).repeat(len(x), 1)
            added["aspect_ratio"] = x.new_full((len(x), 1), height / width)
        return {
            "encoder_hidden_states": cond["tokens"],
            "encoder_attention_mask": cond["mask"],
            "added_cond_kwargs": added,
        }

    def _output(self, raw: torch.Tensor) -> torch.Tensor:
        return raw[:, : self.latent_shape[0]]

    def _own_misfits(self, folder: Folder) -> Iterator[str]:
        yield from equal(
            ("text_encoder d_model", folder.configs["text_encoder"]["d_model"]),
            ("transformer caption_channels", folder.configs["transformer"]["caption_channels"]),
        )

    def _shape(self) -> tuple[int, ...]:
        return self._sized(None)
