"""Settings of a training's speed: what of them is stated in its key, and where they are refused.

They change the last bits of numbers, so that they are part of a key where they do anything; a
training without them has the key that it had before there were such settings.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from distillbench.files.places import Need, package

if TYPE_CHECKING:
    from distillbench.api.method import Method
    from distillbench.experiment.cell_parts import TrainConfig
    from distillbench.specs.stages import TrainSettings

__all__ = ["HALF_ARITHMETIC", "OPTIONS", "needs", "problems", "stated"]

OPTIONS = ("merge_adapters", "compile", "optimizer", "shard")
HALF_ARITHMETIC = 2
"""Part of keys in half precision: since 2 adapters compute in the load dtype, not in float32."""

LOST = (
    "a weight in {} loses what an adapter adds where that is less than some thousandth of it, as "
    "all early updates are; set precision: float32, or leave it out"
)


def stated(train: TrainConfig, method: Method) -> dict[str, Any]:
    """The training settings as a spec states them."""
    settings = train.model_dump(mode="json", exclude={"save_every", *OPTIONS})
    if train.merge_adapters and _adapts(method):
        settings["merge_adapters"] = True
    if train.compile:
        settings["compile"] = True
    if train.optimizer != "adamw":
        settings["optimizer"] = train.optimizer
    if train.shard:
        settings["shard"] = train.shard
    return settings


def problems(train: TrainConfig, method: Method) -> Iterator[tuple[str, str]]:
    """(setting, what is wrong) for each that a training cannot have."""
    tunes, name = method.backbone.tunes, method.backbone.name
    if train.merge_adapters and _adapts(method):
        if not tunes:
            yield "merge_adapters", f"backbone {name} has no adapters to merge; leave it out"
        elif train.precision != "float32":
            yield "merge_adapters", LOST.format(train.precision)
    if train.compile and not tunes:
        yield "compile", f"backbone {name} has no blocks to compile; leave it out"
    if train.shard and (lacks := _unsharded(train, method)):
        yield "shard", f"{lacks}; or leave it out"


def _unsharded(train: TrainConfig, method: Method) -> str:
    """Why a training is not sharded, and what to do; "" where it can be."""
    if train.processes == 1:
        return "one process has nobody to share with; set processes to the GPUs of a training"
    if not method.backbone.blocks:
        return f"backbone {method.backbone.name} names no blocks that could be gathered one by one"
    if train.precision == "float16":
        return "float16 scales losses by gradients of whole tensors; set precision: bfloat16"
    if train.optimizer != "adamw":
        return "moments of 8 bits lie in blocks that parts would cut through; set optimizer: adamw"
    if train.compile:
        return "compiled blocks keep their weights; set compile: false"
    if train.merge_adapters and _adapts(method):
        return "merged adapters keep whole weights; set merge_adapters: false"
    return ""


def needs(train: TrainSettings, *, gpu: bool) -> Iterator[Need]:
    """What the settings take of a machine."""
    eight = train.optimizer == "adamw8bit"
    if eight:
        yield package(
            "torchao", 'pip install "distillbench[adamw8bit]", or set train.optimizer: adamw'
        )
    if gpu and (train.compile or eight):
        instead = "train.compile: false" if train.compile else "train.optimizer: adamw"
        yield package("triton", f"pip install triton, or set {instead}")
    if gpu or not train.compile:
        return
    names = ("g++", "clang++", "c++")
    there = os.environ.get("CXX") or next(filter(shutil.which, names), "")
    problem = "" if there else f"train.compile on a processor needs one, none of {', '.join(names)}"
    yield Need("package", "C++ compiler", problem, "" if there else "set train.compile: false")


def _adapts(method: Method) -> bool:
    return any(spec.kind == "lora" for spec in method.nets().values())
