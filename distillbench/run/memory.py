"""Which trainings of a plan fit a device, reckoned before anything is started.

The reckoning itself is in `train.estimate`, which imports torch; a plan that is not asked for it
does without.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import psutil

from distillbench.api import registry
from distillbench.errors import BadInput, DistillbenchError
from distillbench.plan.devices import gpu_memory, gpu_names
from distillbench.plan.identity import canonical_json
from distillbench.plan.stage import Plan, Stage
from distillbench.specs.stages import TrainSpec

if TYPE_CHECKING:
    from distillbench.train.estimate import Memory

__all__ = ["Device", "Reckoned", "device_here", "reckon", "refuse_unfit"]

GB = 1e9


@dataclass(frozen=True)
class Device:
    """What a stage runs on.

    Attributes:
        name: of the smallest GPU that may be used, or "CPU".
        memory: its bytes.
    """

    name: str
    memory: int


@dataclass(frozen=True)
class Reckoned:
    """The memory of all trainings that are alike in it.

    Attributes:
        stages: their keys.
        label: of the first.
        memory: None where it is not known, and `why` says why.
    """

    stages: tuple[str, ...]
    label: str
    batch_size: int
    precision: str
    memory: Memory | None
    why: str = ""

    @property
    def line(self) -> str:
        """All of it in one line."""
        more = f" and {len(self.stages) - 1} more" if len(self.stages) > 1 else ""
        what = f"{self.label}{more}, {self.batch_size} a pass, {self.precision}"
        if self.memory is None:
            return f"{what}: not known ({self.why})"
        memory = self.memory
        parts = {
            "weights": memory.weights, "trained": memory.trained, "optimizer": memory.optimizer,
            "activations and gradients": memory.passes,
        }  # fmt: skip
        told = ", ".join(f"{name} {_size(size)}" for name, size in parts.items())
        short = f"; at least, as {memory.unknown}" if memory.unknown else ""
        return f"{what}: {_size(memory.total)} ({told}{short})"

    def as_json(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {**asdict(self), "total": self.memory.total if self.memory else None}


def device_here(gpus: int | None) -> Device:
    """The smallest of the GPUs that may be used; the processor for 0, and where there is none."""
    sizes = gpu_memory() if gpus != 0 else ()
    if not sizes:
        return Device("CPU", psutil.virtual_memory().total)
    return Device(gpu_names().split(", ")[0] or "GPU", min(sizes))


def reckon(plan: Plan, keys: Iterable[str]) -> list[Reckoned]:
    """The memory of the trainings among `keys`, in plan order; those that are alike together.

    Alike are those whose settings differ in real numbers alone (rates, scales) and not in which of
    them are zero: a sweep over such numbers is reckoned once.
    """
    alike: dict[str, list[Stage]] = {}
    for key in keys:
        stage = plan.stages[key]
        if isinstance(stage.record, TrainSpec) and stage.record.trains:
            train = stage.record.train
            told = [_shaped(stage.plugin("backbone")), _shaped(stage.plugin("method")),
                    train.batch_size, train.precision]  # fmt: skip
            alike.setdefault(canonical_json(told), []).append(stage)
    return [_reckoned(stages) for stages in alike.values()]


def _shaped(value: Any) -> Any:
    """Settings without the real numbers in them."""
    if isinstance(value, Mapping):
        return {name: _shaped(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_shaped(inner) for inner in value]
    return bool(value) if isinstance(value, float) else value


def _reckoned(stages: list[Stage]) -> Reckoned:
    train = stages[0].read(TrainSpec).train
    memory, why = _memory(stages[0], {}, {}, train.batch_size)
    keys = tuple(stage.key for stage in stages)
    return Reckoned(keys, stages[0].name, train.batch_size, train.precision, memory, why)


def _memory(
    stage: Stage, backbone: Mapping[str, Any], method: Mapping[str, Any], batch_size: int
) -> tuple[Memory | None, str]:
    """Of a training with some of its settings changed, and why it is not known."""
    from distillbench.train.estimate import training_memory

    spec = stage.read(TrainSpec)
    named, theirs = stage.plugin("backbone"), stage.plugin("method")
    try:
        built = registry.build_backbone(named.name, {**named.params, **backbone})
        if lacks := [need.line for need in built.requirements() if need.problem]:
            return None, lacks[0]
        made = registry.build_method(theirs.name, {**theirs.params, **method}, built)
        return training_memory(
            made, precision=spec.train.precision, batch_size=batch_size
        ), ""  # fmt: skip
    except DistillbenchError as error:
        return None, error.line
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as e:
        return None, f"no outline of {named.name}: {' '.join(str(e).split())[:80]}"


# ---- what fits ------------------------------------------------------------------------------


def refuse_unfit(plan: Plan, keys: Iterable[str], device: Device) -> None:
    """Stop a run whose trainings a device cannot hold.

    Raises:
        BadInput: one line for each, with the numbers and with settings that would fit.
    """
    lines = [
        f"memory: {found.line} is more than {device.name} has, {_size(device.memory)}; "
        f"{_advice(plan.stages[found.stages[0]], device)}"
        for found in reckon(plan, keys)
        if found.memory is not None and found.memory.total > device.memory
    ]
    if lines:
        raise BadInput("\n".join([*lines, "nothing was started"]))


def _advice(stage: Stage, device: Device) -> str:
    found = list(_fitting(stage, device.memory))
    return f"would fit: {'; or '.join(found)}" if found else "nothing that is tried here would fit"


def _fitting(stage: Stage, limit: int) -> Iterator[str]:
    """Settings that differ in one thing and would fit."""
    train = stage.read(TrainSpec).train
    size, times = train.batch_size, train.accumulate
    while size % 2 == 0:
        size, times = size // 2, times * 2
        if _fits(stage, {}, {}, size, limit):
            yield f"train.batch_size: {size} with train.accumulate: {times}"
            break
    of_backbone, of_method = stage.plugin("backbone").params, stage.plugin("method").params
    for given, was, setting, words in (
        (of_backbone, False, "gradient_checkpointing", "true of the backbone"),
        (of_method, "copy", "nets", "lora of the method"),
    ):
        if given.get(setting, None if was else was) == was:
            value = words.split()[0]
            changed = {setting: True if value == "true" else value}
            both = (changed, {}) if given is of_backbone else ({}, changed)
            if _fits(stage, *both, train.batch_size, limit):
                yield f"{setting}: {words}"


def _fits(
    stage: Stage, backbone: Mapping[str, Any], method: Mapping[str, Any], size: int, limit: int
) -> bool:
    memory, _ = _memory(stage, backbone, method, size)
    return memory is not None and memory.total <= limit


def _size(size: int) -> str:
    return f"{size / GB:.3g} GB" if size >= GB / 10 else f"{size / 1e6:.3g} MB"
