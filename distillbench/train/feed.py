"""Where a training's batches come from: on a GPU from a thread that is ahead of its steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from distillbench.api import backbone as api
from distillbench.api.method import Method
from distillbench.data.ahead import Ahead, BatchKey, MakeBatch
from distillbench.data.batches import DataSource
from distillbench.data.imageset import planned_images
from distillbench.data.prompts import planned_prompts
from distillbench.specs.context import Runtime
from distillbench.specs.stages import TrainSpec

__all__ = ["feed", "keys", "source"]


def source(
    spec: TrainSpec, told: Runtime, method: Method, device: str, tell: Callable[[str], None]
) -> DataSource:
    """The data of a training on its loaded backbone.

    Raises:
        BadInput: prompts or pictures are not those that were planned with, or cannot be read.
    """
    data = spec.data
    prompts: tuple[str, ...] = ()
    if not (data.images_sha256 or told.images):
        prompts = planned_prompts(told.prompts, data.prompts_sha256).prompts
    return DataSource(
        method.backbone, prompts, seed=spec.seed, batch_size=spec.train.batch_size,
        latents="latents" in method.needs, images=planned_images(data, told.images),
        fit=data.fit, device=device, content=data.images_sha256, tell=tell,
    )  # fmt: skip


def keys(method: Method, micros: range, steps: range) -> Iterator[BatchKey]:
    """What the turns of these steps ask for, each batch once, in their order.

    Args:
        micros: this process's micro-batches of a step.
    """
    for step in steps:
        repeats: Counter[str] = Counter()
        asked: dict[BatchKey, None] = {}
        for turn in method.turns(step):
            asked |= dict.fromkeys((step, micro, repeats[turn]) for micro in micros)
            repeats[turn] += 1
        yield from asked


@contextmanager
def feed(
    data: DataSource, method: Method, micros: range, steps: range, tick: Callable[[], None]
) -> Iterator[MakeBatch]:
    """What gives the batches of these steps.

    On a processor that is `DataSource.batch` itself: a second thread would take what others were
    given. Elsewhere text encoders and autoencoder leave the device where they have done their work,
    and a thread makes the next batches during the steps.

    Args:
        tick: called as text and pictures are encoded before the first step.
    """
    if torch.device(data.device).type == api.RESTING_PLACE:
        yield data.batch
        return
    data.settle(len(steps) * len(micros) * data.batch_size, tick)
    with Ahead(data.batch, keys(method, micros, steps)) as ahead:
        yield ahead.batch
