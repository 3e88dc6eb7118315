"""Which stages of a plan fit a device, and what settings would; nothing is started.

What they take is reckoned in `run.reckon`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

import psutil

from distillbench.errors import BadInput
from distillbench.plan.devices import gpu_memory, gpu_names
from distillbench.plan.stage import Plan, Stage
from distillbench.run.reckon import Changed, memory_of, reckon, size_text
from distillbench.specs.stages import SampleSpec, TrainSpec

__all__ = ["Device", "device_here", "refuse_unfit"]


@dataclass(frozen=True)
class Device:
    """What a stage runs on.

    Attributes:
        name: of the smallest GPU that may be used, or "CPU".
        memory: its bytes.
    """

    name: str
    memory: int


def device_here(gpus: int | None) -> Device:
    """The smallest of the GPUs that may be used; the processor for 0, and where there is none."""
    sizes = gpu_memory() if gpus != 0 else ()
    if not sizes:
        return Device("CPU", psutil.virtual_memory().total)
    return Device(gpu_names().split(", ")[0] or "GPU", min(sizes))


def refuse_unfit(plan: Plan, keys: Iterable[str], device: Device) -> None:
    """Stop a run whose trainings, samplings or scorers a device cannot hold.

    Raises:
        BadInput: one line for each, with the numbers and with settings that would fit.
    """
    lines = [
        f"memory: {found.line} is more than {device.name} has, {size_text(device.memory)}; "
        f"{_advice(plan, plan.stages[found.stages[0]], device)}"
        for found in reckon(plan, keys)
        if found.memory is not None and found.memory.total > device.memory
    ]
    if lines:
        raise BadInput("\n".join([*lines, "nothing was started"]))


def _advice(plan: Plan, stage: Stage, device: Device) -> str:
    """Settings that would fit: such as differ in one thing, else all of them together."""
    kinds = [list(kind) for kind in _kinds(stage)]

    def fits(changed: Changed) -> bool:
        memory, _ = memory_of(plan, stage, changed)
        if memory is None or memory.unknown:
            return False
        return memory.total <= device.memory

    found = [next((words for words, changed in kind if fits(changed)), "") for kind in kinds]
    if any(found):
        return f"would fit: {'; or '.join(filter(None, found))}"
    least = [kind[-1] for kind in kinds if kind]
    if len(least) > 1 and fits(reduce(or_, (changed for _, changed in least))):
        return f"would fit: {'; with '.join(words for words, _ in least)}"
    return "nothing that is tried here would fit"


Tried = Iterator[tuple[str, Changed]]


def _kinds(stage: Stage) -> Iterator[Tried]:
    """Each kind of change, from the smallest on."""
    spec = stage.record
    if isinstance(spec, TrainSpec):
        backbone, method = stage.plugin("backbone").params, stage.plugin("method").params
        yield _batches(spec)
        yield _checkpointing(backbone)
        yield _sharding(spec)
        yield _adapters(method)
    elif isinstance(spec, SampleSpec):
        yield _calls(spec)


def _batches(spec: TrainSpec) -> Tried:
    size, times = spec.train.batch_size, spec.train.accumulate
    for less in _divisors(size):
        words = f"train.batch_size: {less} with train.accumulate: {times * size // less}"
        yield words, Changed(batch_size=less)


def _calls(spec: SampleSpec) -> Tried:
    for less in _divisors(spec.batch_size):
        yield f"sample.batch_size: {less}", Changed(batch_size=less)


def _divisors(size: int) -> list[int]:
    """Those below a size, falling: so many samples a pass make up the same batch."""
    return [n for n in range(size // 2, 0, -1) if size % n == 0]


def _checkpointing(given: Mapping[str, Any]) -> Tried:
    if given.get("gradient_checkpointing") is False:
        words = "gradient_checkpointing: true of the backbone"
        yield words, Changed(backbone={"gradient_checkpointing": True})


def _sharding(spec: TrainSpec) -> Tried:
    """Networks shared by the processes that there are."""
    train = spec.train
    plain = train.optimizer == "adamw" and not train.compile and not train.merge_adapters
    if train.processes > 1 and not train.shard and plain and train.precision != "float16":
        yield "train.shard: fsdp2", Changed(ranks=train.processes)


def _adapters(given: Mapping[str, Any]) -> Tried:
    """Adapters in place of copies, and of lower ranks."""
    if given.get("nets", "lora") != "lora":
        yield "nets: lora of the method", Changed(method={"nets": "lora"})
        return
    rank = given.get("rank")
    while isinstance(rank, int) and rank > 1:
        rank //= 2
        yield f"rank: {rank} of the method", Changed(method={"rank": rank})
