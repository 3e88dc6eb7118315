"""Stable Diffusion 3: a transformer over text and image together, trained by flow matching."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, Field, PositiveInt

from distillbench.api.backbone import Cond
from distillbench.api.fields import SIZE
from distillbench.backbones._fits import equal, text
from distillbench.backbones._folder import Folder
from distillbench.backbones._layouts import ATTENTION_AND_MLP, SD3
from distillbench.backbones._pipeline import PipelineConfig, Resolution
from distillbench.backbones._transformer import TransformerBackbone
from distillbench.core.lazy import torch

__all__ = ["Sd3", "Sd3Config"]


class Sd3Config(PipelineConfig):
    """Attributes:
    resolution: side of the images in pixels or [height, width]; None is what the network was
        trained at.
    text_length: tokens that the T5 encoder sees of a prompt, padding included.
    shift: g of S(u) = g u / (1 + (g - 1) u), which spaces times, as the weights' scheduler says.
    """

    model: str = "stabilityai/stable-diffusion-3-medium-diffusers"
    resolution: Annotated[Resolution | None, SIZE] = None
    text_length: PositiveInt = 256
    shift: float = Field(3.0, ge=1)


class Sd3(TransformerBackbone):
    """Times are 1000 sigma, the first is pure noise at 1000 (arXiv 2403.03206).

    An empty prompt is the unconditional branch.
    """

    Config: ClassVar[type[BaseModel]] = Sd3Config
    name = "sd3"
    process_kind = "flow"
    pipeline = "StableDiffusion3Pipeline"
    layout = SD3
    published = (15_500_000_000, "Stability AI Community License, accepted on the hub")
    time_mlp = "time_text_embed.timestep_embedder"
    targets = (*ATTENTION_AND_MLP, "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
    image_output = 1

    def _own_misfits(self, folder: Folder) -> Iterator[str]:
        """Also weights whose own shift is another than the default, where none was given."""
        config: Any = self.config
        yield from self._size_misfits(folder)
        theirs = float(folder.configs["scheduler"]["shift"])
        if theirs != config.shift and "shift" not in config.model_fields_set:
            yield (
                f"scheduler/scheduler_config.json: has shift {theirs:g}, the default here is "
                f"{config.shift:g}; set the backbone's parameter shift: {theirs:g}"
            )
        first, second, third, net = (
            folder.configs[name]
            for name in ("text_encoder", "text_encoder_2", "text_encoder_3", "transformer")
        )
        yield from text(folder, "text_encoder", "tokenizer")
        yield from text(folder, "text_encoder_2", "tokenizer_2")
        yield from equal(
            (
                "projection_dim of both CLIP encoders",
                first["projection_dim"] + second["projection_dim"],
            ),
            ("transformer pooled_projection_dim", net["pooled_projection_dim"]),
        )
        yield from equal(
            ("transformer joint_attention_dim", net["joint_attention_dim"]),
            ("text_encoder_3 d_model", third["d_model"]),
        )
        if first["hidden_size"] + second["hidden_size"] > net["joint_attention_dim"]:
            yield "transformer joint_attention_dim is less than the two CLIP encoders give"
        yield from equal(
            ("transformer width", net["num_attention_heads"] * net["attention_head_dim"]),
            ("transformer caption_projection_dim", net["caption_projection_dim"]),
        )

    @property
    def time_shift(self) -> float:
        """As its scheduler says: 1000, 900, 750, 500 for 4 steps.

        The teacher is sampled there too, as pipelines of later flow models do. This pipeline's own
        default takes its last step from time 9, which costs few steps dearly: 1000, 9 for two.
        """
        config: Any = self.config
        shift: float = config.shift
        return shift

    def call_arguments(self) -> dict[str, Any]:
        """With the length of the T5 encoder's text."""
        config: Any = self.config
        return {**super().call_arguments(), "max_sequence_length": config.text_length}

    def _encode(self, prompts: Sequence[str]) -> Cond:
        config: Any = self.config
        tokens, _, pooled, _ = self.pipe.encode_prompt(
            list(prompts), prompt_2=None, prompt_3=None, device=self.device,
            do_classifier_free_guidance=False, max_sequence_length=config.text_length,
        )  # fmt: skip
        return Cond({"tokens": tokens.float(), "pooled": pooled.float()})

    def _arguments(self, x: torch.Tensor, cond: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        return {"encoder_hidden_states": cond["tokens"], "pooled_projections": cond["pooled"]}

    def _shape(self) -> tuple[int, ...]:
        config: Any = self.config
        return self._sized(config.resolution)
