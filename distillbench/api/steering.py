"""What steers sampling beside the prompt: ControlNets and IP-Adapters of others (no torch)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from distillbench.api.published import Published

__all__ = ["Made", "Steer", "SteerKind"]

SteerKind = Literal["control", "image_prompts"]


@dataclass(frozen=True)
class Made:
    """How a control picture is made of a picture.

    Attributes:
        make: "" takes it as it is, "canny" its edges.
        low, high: thresholds of the edges.
    """

    make: Literal["", "canny"] = ""
    low: int = 100
    high: int = 200


@dataclass(frozen=True)
class Steer:
    """One of them, with the pictures it takes.

    Attributes:
        kind: as rows call it: "control" is a ControlNet (arXiv 2302.05543), "image_prompts" an
            IP-Adapter (arXiv 2308.06721).
        weights: a ControlNet's folder, or the file of an IP-Adapter.
        images: a folder of pictures for the prompts, or one picture for all of them.
        scale: of what it adds.
        made: how a ControlNet's pictures are made.
        encoder: folder of the image encoder of an IP-Adapter.
    """

    kind: SteerKind
    weights: Published
    images: str
    scale: float = 1.0
    made: Made = Made()
    encoder: Published | None = None
