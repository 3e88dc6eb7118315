"""Stable Diffusion XL: two text encoders, a pooled vector and size conditions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel

from distillbench.api.backbone import Cond
from distillbench.api.fields import SIZE
from distillbench.backbones._fits import equal, text
from distillbench.backbones._folder import Folder
from distillbench.backbones._layouts import SDXL
from distillbench.backbones._pipeline import Resolution
from distillbench.backbones.sd import EmbeddedGuidance, UnetBackbone
from distillbench.core.lazy import torch

__all__ = ["Sdxl", "SdxlConfig"]


class SdxlConfig(EmbeddedGuidance):
    """Attributes:
    resolution: side of the images in pixels or [height, width]; None is what the network was
        trained at.
    """

    model: str = "stabilityai/stable-diffusion-xl-base-1.0"
    resolution: Annotated[Resolution | None, SIZE] = None


class Sdxl(UnetBackbone):
    """UNet; original and target size are the image's own, the crop starts at the corner."""

    Config: ClassVar[type[BaseModel]] = SdxlConfig
    name = "sdxl"
    pipeline = "StableDiffusionXLPipeline"
    layout = SDXL
    published = (13_900_000_000, "CreativeML OpenRAIL++-M")
    load_options: ClassVar[Mapping[str, Any]] = {"add_watermarker": False}  # alters the pixels

    def _encode(self, prompts: Sequence[str]) -> Cond:
        tokens, _, pooled, _ = self.pipe.encode_prompt(
            list(prompts), device=self.device, do_classifier_free_guidance=False
        )
        h, w = (float(side * self.pipe.vae_scale_factor) for side in self.latent_shape[-2:])
        sizes = torch.tensor([[h, w, 0.0, 0.0, h, w]], device=self.device)
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
        return {
            "encoder_hidden_states": cond["tokens"], "added_cond_kwargs": added,
            **self._own_guidance(x),
        }  # fmt: skip

    def _own_misfits(self, folder: Folder) -> Iterator[str]:
        yield from super()._own_misfits(folder)
        first, second, unet = (
            folder.configs[n] for n in ("text_encoder", "text_encoder_2", "unet")
        )
        yield from text(folder, "text_encoder", "tokenizer")
        yield from text(folder, "text_encoder_2", "tokenizer_2")
        sizes = second["projection_dim"] + 6 * unet["addition_time_embed_dim"]
        yield from equal(
            ("hidden_size of both text encoders", first["hidden_size"] + second["hidden_size"]),
            ("unet cross_attention_dim", unet["cross_attention_dim"]),
        )
        yield from equal(
            ("width of pooled text and sizes", sizes),
            ("unet projection_class_embeddings_input_dim",
             unet["projection_class_embeddings_input_dim"]),
        )  # fmt: skip

    def _shape(self) -> tuple[int, ...]:
        config: Any = self.config
        return self._sized(config.resolution)
