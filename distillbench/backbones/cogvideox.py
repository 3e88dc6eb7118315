"""CogVideoX: text to video; v-prediction on a shifted schedule with zero terminal SNR."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, Field, PositiveInt

from distillbench.api.backbone import Backbone, Cond
from distillbench.backbones._fits import cell, equal
from distillbench.backbones._folder import Folder
from distillbench.backbones._layouts import COGVIDEOX
from distillbench.backbones._on_disk import settings_of
from distillbench.backbones._pipeline import PipelineConfig
from distillbench.backbones._transformer import TransformerBackbone
from distillbench.core.lazy import torch
from distillbench.core.schedules import shifted_nodes

if TYPE_CHECKING:
    from distillbench.backbones._diffusers import ImageCodec, VideoCodec

__all__ = ["Cogvideox", "CogvideoxConfig", "whole_clip"]


def whole_clip(frames: int) -> int:
    """Refuse a number of frames that the causal autoencoder cannot give back."""
    if frames % 8 != 1:
        raise ValueError("must be 8 k + 1, such as 9, 17 or 49")
    return frames


class CogvideoxConfig(PipelineConfig):
    """Size of the clip, and the shift of a student's times.

    Attributes:
        frames, height, width: of the decoded clip; 8 k + 1 frames, as the decoder upsamples time
            rightly only from an odd number of latent frames.
        node_shift: g of S(u) = g u / (1 + (g - 1) u), which spaces a student's input times; 2 gives
            the 999, 856, 665, 399 that TDM (arXiv 2503.06674) was released with.
    """

    model: str = "THUDM/CogVideoX-2b"
    frames: Annotated[PositiveInt, AfterValidator(whole_clip)] = 49
    height: PositiveInt = 480
    width: PositiveInt = 720
    node_shift: float = Field(2.0, ge=1)


class Cogvideox(TransformerBackbone):
    """Latents are (frames, channels, height, width), as diffusers orders them."""

    Config: ClassVar[type[BaseModel]] = CogvideoxConfig
    name = "cogvideox"
    modality = "video"
    pipeline = "CogVideoXPipeline"
    layout = COGVIDEOX
    published = (13_500_000_000, "Apache-2.0")
    encode_images = Backbone.encode_images  # none: clips, not images; planning looks here

    def nodes(self, steps: int) -> tuple[int, ...]:
        """floor(1000 S(i / K)) - 1 for i = K..1."""
        config: Any = self.config
        return shifted_nodes(steps, config.node_shift, self.num_timesteps)

    def _codec(self) -> ImageCodec | VideoCodec:
        from distillbench.backbones._diffusers import VideoCodec

        return VideoCodec(self.pipe.vae)

    def call_arguments(self) -> dict[str, Any]:
        """With the clip's size and the text's length."""
        config: Any = self.config
        return {
            "height": config.height, "width": config.width, "num_frames": config.frames,
            "negative_prompt": None, "use_dynamic_cfg": False,
            "max_sequence_length": self.pipe.transformer.config.max_text_seq_length,
        }  # fmt: skip

    def _encode(self, prompts: Sequence[str]) -> Cond:
        length = self.pipe.transformer.config.max_text_seq_length
        tokens, _ = self.pipe.encode_prompt(
            list(prompts), do_classifier_free_guidance=False, device=self.device,
            max_sequence_length=length,
        )  # fmt: skip
        return Cond({"tokens": tokens.float()})

    def _arguments(self, x: torch.Tensor, cond: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        rotary = None
        if self.pipe.transformer.config.use_rotary_positional_embeddings:
            config: Any = self.config
            rotary = self.pipe._prepare_rotary_positional_embeddings(
                config.height, config.width, x.shape[1], x.device
            )
        return {"encoder_hidden_states": cond["tokens"], "image_rotary_emb": rotary}

    def _own_misfits(self, folder: Folder) -> Iterator[str]:
        network, config = folder.configs["transformer"], self.config
        side = cell(folder.configs["vae"]) * network["patch_size"]
        for name in ("height", "width"):
            if getattr(config, name) % side:
                yield f"{name}: {getattr(config, name)} is no multiple of {side} pixels"
        yield from equal(
            ("text_encoder d_model", folder.configs["text_encoder"]["d_model"]),
            ("transformer text_embed_dim", network["text_embed_dim"]),
        )
        yield from equal(
            ("vae temporal_compression_ratio", folder.configs["vae"]["temporal_compression_ratio"]),
            ("transformer temporal_compression_ratio",
             network.get("temporal_compression_ratio", 4)),
        )  # fmt: skip

    def _shape(self) -> tuple[int, ...]:
        config: Any = self.config
        space, time = self.pipe.vae_scale_factor_spatial, self.pipe.vae_scale_factor_temporal
        channels = self.pipe.transformer.config.in_channels
        frames = (config.frames - 1) // time + 1
        return (frames, channels, config.height // space, config.width // space)

    def _text_lengths(self, folder: Path) -> dict[str, int]:
        length = settings_of(folder, "transformer").get("max_text_seq_length")
        return {"tokenizer": int(length)} if length else {}

    def _frames(self) -> int:
        config: Any = self.config
        return int(config.frames)

    def _sample_size(self, folder: Path) -> tuple[int, int]:
        config: Any = self.config
        return (int(config.height), int(config.width))

    def _as_map(self, hidden: torch.Tensor) -> torch.Tensor:
        frames, _, height, width = self.latent_shape
        patch = self.pipe.transformer.config.patch_size
        return hidden.transpose(1, 2).reshape(
            len(hidden), -1, frames, height // patch, width // patch
        )
