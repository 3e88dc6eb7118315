"""What is put on a network for sampling beside the student's own weights."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from distillbench.experiment.outputs import Section

__all__ = ["OnTopConfig"]


class OnTopConfig(Section):
    """A LoRA of others, such as a style; several are added up.

    Attributes:
        weights: a file or folder, or `owner/name:file@revision` of the hub.
        sha256: of those bytes; a hub file without one is trusted on first use.
        scale: multiplies its alpha / rank.
    """

    weights: str
    sha256: Annotated[str, Field(pattern=r"^([0-9a-fA-F]{64})?$")] = ""
    scale: float = 1.0
