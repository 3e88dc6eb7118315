"""Stable Diffusion 3: a transformer over text and image together, trained by flow matching."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, PositiveInt

from distillbench.backbones._pipeline import ATTENTION_AND_MLP, PipelineConfig
from distillbench.backbones._transformer import TransformerBackbone
from distillbench.backbones.base import Cond
from distillbench.core.lazy import torch
from distillbench.errors import BadInput
from distillbench.sample.schedules import shifted_nodes

__all__ = ["Sd3", "Sd3Config"]


class Sd3Config(PipelineConfig):
    """Attributes:
    resolution: side of the images in pixels; None is what the network was trained at.
    text_length: tokens that the T5 encoder sees of a prompt, padding included.
    shift: g of S(u) = g u / (1 + (g - 1) u), which spaces times, as the weights' scheduler says.
    """

    model: str = "stabilityai/stable-diffusion-3-medium-diffusers"
    resolution: PositiveInt | None = None
    text_length: PositiveInt = 256
    shift: float = Field(3.0, ge=1)


class Sd3(TransformerBackbone):
    """Times are 1000 sigma, the first is pure noise at 1000 (arXiv 2403.03206).

    An empty prompt is the unconditional branch.
    """

    Config = Sd3Config
    name = "sd3"
    process_kind = "flow"
    pipeline = "StableDiffusion3Pipeline"
    published = (15_500_000_000, "Stability AI Community License, accepted on the hub")
    time_mlp = "time_text_embed.timestep_embedder"
    targets = (*ATTENTION_AND_MLP, "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
    image_output = 1

    def load(self, device: str = "cpu", *, dtype: str = "float32") -> None:
        """As the other families; refuses weights whose own shift is another.

        Raises:
            MissingWeights: as `Backbone.load`.
            BadInput: `shift` was not given, and the scheduler's is not the default.
        """
        super().load(device, dtype=dtype)
        config: Any = self.config
        theirs = float(self.pipe.scheduler.config.get("shift", 1.0))
        if theirs != config.shift and "shift" not in config.model_fields_set:
            raise BadInput(
                f"backbone {self.name}: the scheduler of {self.source()} has shift {theirs:g}, the "
                f"default here is {config.shift:g}",
                hint=f"set the backbone's parameter shift: {theirs:g}",
            )

    def nodes(self, steps: int) -> tuple[int, ...]:
        """1000 S(i / K) for i = K..1: 1000, 900, 750, 500 for 4 steps.

        The teacher is sampled there too, as pipelines of later flow models do. This pipeline's own
        default takes its last step from time 9, which costs few steps dearly: 1000, 9 for two.
        """
        config: Any = self.config
        return shifted_nodes(steps, config.shift, self.num_timesteps, flow=True)

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
        return self._square(config.resolution)
