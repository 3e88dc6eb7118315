"""What samples are made with beside a student's own weights, as their specs say it."""

from __future__ import annotations

from typing import Literal

from distillbench.specs.record import Record

__all__ = ["ControlSpec", "ImagePromptSpec", "OnTopSpec"]


class OnTopSpec(Record):
    """A LoRA of others: identity of its bytes, and its scale."""

    weights: str
    scale: float


class ControlSpec(Record):
    """A ControlNet.

    Attributes:
        weights: identity of its bytes.
        images: of its pictures' content, in the order of the prompts; "" where nobody planned it.
        make: how its pictures are made of those; "" takes them as they are.
        low, high: thresholds of edges, stated where edges are made.
    """

    weights: str
    scale: float
    images: str
    make: Literal["", "canny"] = ""
    low: int = 0
    high: int = 0


class ImagePromptSpec(Record):
    """An IP-Adapter: identities of its weights, its image encoder and its pictures."""

    weights: str
    encoder: str
    scale: float
    images: str
