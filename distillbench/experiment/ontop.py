"""What is put on a network for sampling beside the student's own weights."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from distillbench.experiment.outputs import Section

__all__ = ["ControlConfig", "ImagePromptConfig", "OnTopConfig"]

Sha256 = Annotated[str, Field(pattern=r"^([0-9a-fA-F]{64})?$")]


class OnTopConfig(Section):
    """A LoRA of others, such as a style; several are added up.

    Attributes:
        weights: a file or folder, or `owner/name:file@revision` of the hub.
        sha256: of those bytes; a hub file without one is trusted on first use.
        scale: multiplies its alpha / rank.
    """

    weights: str
    sha256: Sha256 = ""
    scale: float = 1.0


class ControlConfig(Section):
    """A ControlNet; several are added up.

    Attributes:
        weights: its folder in diffusers format, `owner/name@revision` of the hub, or
            `tiny-controlnet`, which is shipped.
        sha256: of those bytes; a repository without one is trusted on first use.
        images: a folder of pictures for the prompts, one picture for all of them, or
            `world-renders`, drawn for prompts of the tiny world; brought to the samples' size.
        make: how its pictures are made of those: "" takes them as they are, "canny" their edges.
        low, high: thresholds of these edges.
        scale: multiplies what it adds.
    """

    weights: str
    images: str
    sha256: Sha256 = ""
    make: Literal["", "canny"] = ""
    low: Annotated[int, Field(ge=0)] = 100
    high: Annotated[int, Field(ge=0)] = 200
    scale: float = 1.0

    @model_validator(mode="after")
    def _edges(self) -> Self:
        if not self.make and {"low", "high"} & self.model_fields_set:
            raise ValueError("low and high are of edges: set make: canny, or leave them out")
        return self


class ImagePromptConfig(Section):
    """An IP-Adapter; several share one encoder.

    Attributes:
        weights: its .safetensors file, or `owner/name:file@revision` of the hub.
        encoder: folder of its image encoder, or that of the hub.
        sha256: of the file; one of the hub without it is trusted on first use.
        images: a folder of pictures for the prompts, or one picture for all of them.
        scale: multiplies what it adds.
    """

    weights: str
    encoder: str
    images: str
    sha256: Sha256 = ""
    scale: float = 1.0
