"""What a training's spec says of its settings and of how pictures are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import NonNegativeInt, PositiveInt

from distillbench.files.renamed import renamed
from distillbench.specs.record import Record

__all__ = ["MOMENTS", "OPTIONAL", "FitSpec", "OptimizerKind", "TrainSettings"]

OptimizerKind = Literal["adamw", "adamw8bit"]
MOMENTS: Mapping[OptimizerKind, float] = {"adamw": 8.0, "adamw8bit": 2 * (1 + 4 / 256)}
"""Bytes of both Adam moments of each trained number."""

OPTIONAL = frozenset({"stop", "arithmetic", "merge_adapters", "compile", "optimizer", "shard"})
"""Settings that a training states where they are not their defaults."""


class TrainSettings(Record):
    """How a training goes; see `experiment.cell_parts.TrainConfig`.

    What is not trained is sampled in its `precision` and has none of the others but `arithmetic`.

    Attributes:
        stop: the student update it ends after, where that is not the last one.
        arithmetic: version of what is computed in half precision, None in float32.
        merge_adapters, compile, optimizer, shard: stated where they are asked for.
    """

    updates: Annotated[NonNegativeInt, renamed("steps")] = 0
    batch_size: NonNegativeInt = 0
    accumulate: PositiveInt = 1
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    lr_scale: float = 1.0
    processes: PositiveInt = 1
    stop: PositiveInt | None = None
    arithmetic: PositiveInt | None = None
    merge_adapters: bool = False
    compile: bool = False
    optimizer: OptimizerKind = "adamw"
    shard: Literal["", "fsdp2"] = ""

    @property
    def last(self) -> int:
        """The student update that it ends after."""
        return self.updates if self.stop is None else self.stop


class FitSpec(Record):
    """How images come to the network's size and latents; see `experiment.cell_parts.DataConfig`."""

    resize: Literal["center-crop", "pad", "stretch"]
    background: str
    latents: Literal["mode", "sample"] = "mode"
    flip: bool = False
