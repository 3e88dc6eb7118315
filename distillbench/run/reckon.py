"""The memory of a plan's stages, reckoned before anything is started.

The reckoning itself is in `train.estimate` and `sample.estimate`, which import torch; a plan that
is not asked for it does without.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillbench.api import registry
from distillbench.errors import DistillbenchError
from distillbench.files.places import Need
from distillbench.plan.identity import canonical_json
from distillbench.plan.stage import Plan, Stage
from distillbench.plan.weights import needs_of
from distillbench.specs.context import PluginRole
from distillbench.specs.stages import Kind, SampledSpec, SampleSpec, ScoreSpec, TrainSpec
from distillbench.specs.stored import Told

if TYPE_CHECKING:
    from distillbench.outlines import Memory

__all__ = ["Changed", "Reckoned", "memory_of", "reckon", "size_text"]

GB = 1e9
_OUTLINE = (
    ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError,
)  # fmt: skip


@dataclass(frozen=True)
class Reckoned:
    """The memory of all stages of a kind that are alike in it.

    Attributes:
        stages: their keys.
        label: of the first.
        batch_size: of a training's micro-batch, or of a sampler's call; 0 for scores.
        ranks: how many processes share each network; the memory is that of one of them.
        precision: of networks, "" for scores.
        memory: None where it is not known, and `why` says why.
    """

    kind: Kind
    stages: tuple[str, ...]
    label: str
    batch_size: int
    precision: str
    memory: Memory | None
    why: str = ""
    ranks: int = 1

    @property
    def line(self) -> str:
        """All of it in one line."""
        more = f" and {len(self.stages) - 1} more" if len(self.stages) > 1 else ""
        batch = f", {self.batch_size} a pass, {self.precision}" if self.batch_size else ""
        batch += f", sharded over {self.ranks}" if self.ranks > 1 else ""
        what = f"{'' if self.kind == 'train' else f'{self.kind} '}{self.label}{more}{batch}"
        if self.memory is None:
            return f"{what}: not known ({self.why})"
        memory = self.memory
        parts = {"weights": memory.weights, "trained": memory.trained,
                 "optimizer": memory.optimizer, self._passes: memory.passes}  # fmt: skip
        trains = self.kind == "train"
        told = ", ".join(f"{n} {size_text(s)}" for n, s in parts.items() if s or trains)
        short = f"; at least, as {memory.unknown}" if memory.unknown else ""
        return f"{what}: {size_text(memory.total)} ({told}{short})"

    @property
    def _passes(self) -> str:
        turn = self.memory.turn if self.memory else ""
        return "activations and gradients" if self.kind == "train" else turn or "activations"

    def as_json(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {**asdict(self), "total": self.memory.total if self.memory else None}


@dataclass(frozen=True)
class Changed:
    """Settings of a stage other than its own; None leaves batch and number of ranks as they are."""

    backbone: Mapping[str, Any] = field(default_factory=dict)
    method: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int | None = None
    ranks: int | None = None

    def __or__(self, more: Changed) -> Changed:
        plugins = {**self.backbone, **more.backbone}, {**self.method, **more.method}
        return Changed(*plugins, self.batch_size or more.batch_size, self.ranks or more.ranks)


def reckon(plan: Plan, keys: Iterable[str]) -> list[Reckoned]:
    """The memory of the stages among `keys`, in plan order; those that are alike together.

    Alike are those whose settings differ in real numbers alone (rates, scales) and not in which of
    them are zero: a sweep over such numbers is reckoned once. Scorers without published weights
    are left out.
    """
    alike: dict[str, list[Stage]] = {}
    for key in keys:
        if told := _told(plan, plan.stages[key]):
            alike.setdefault(canonical_json(told), []).append(plan.stages[key])
    found = [_reckoned(plan, stages) for stages in alike.values()]
    return [one for one in found if one.kind != "score" or one.memory is not None]


def _told(plan: Plan, stage: Stage) -> list[Any] | None:
    """What decides the memory of a stage; None for one that is not reckoned."""
    spec = stage.record
    if isinstance(spec, ScoreSpec):
        return ["score", list(stage.plugin("metric"))]
    if not isinstance(spec, SampleSpec | TrainSpec) or (
        isinstance(spec, TrainSpec) and not spec.trains
    ):
        return None
    nets = [_shaped(stage.plugin("backbone")), _shaped(stage.plugin("method"))]
    told = [stage.kind, *nets, _batch(spec), _precision(plan, spec)]
    if isinstance(spec, TrainSpec):
        told += [spec.train.optimizer, _ranks(spec)]
    if isinstance(spec, SampleSpec):
        there = _shaped(stage.plugin("sample_on")) if spec.sample_on else None
        told += [there, spec.sampler.kind, spec.sampler.guidance_scale != 1]
        told += [spec.onto is not None, [its.weights for its in spec.adapters]]
        told += [[its.weights for its in kind] for kind in (spec.control, spec.image_prompts)]
    return told


def _shaped(value: Any) -> Any:
    """Settings without the real numbers in them."""
    if isinstance(value, Mapping):
        return {name: _shaped(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_shaped(inner) for inner in value]
    return bool(value) if isinstance(value, float) else value


def _batch(spec: Any) -> int:
    if isinstance(spec, TrainSpec):
        return spec.train.batch_size
    return spec.batch_size if isinstance(spec, SampleSpec) else 0


def _ranks(spec: TrainSpec) -> int:
    """How many processes share each network."""
    return spec.train.processes if spec.train.shard else 1


def _precision(plan: Plan, spec: Any) -> str:
    """That of the training, in which its student is sampled too."""
    if isinstance(spec, SampleSpec):
        spec = plan.stages[spec.train].read(TrainSpec)
    return spec.train.precision if isinstance(spec, TrainSpec) else ""


def _reckoned(plan: Plan, stages: list[Stage]) -> Reckoned:
    first, spec = stages[0], stages[0].record
    memory, why = memory_of(plan, first)
    keys = tuple(stage.key for stage in stages)
    return Reckoned(
        first.kind, keys, first.name, _batch(spec), _precision(plan, spec), memory, why,
        _ranks(spec) if isinstance(spec, TrainSpec) else 1,
    )  # fmt: skip


def memory_of(
    plan: Plan, stage: Stage, changed: Changed | None = None
) -> tuple[Memory | None, str]:
    """Of a stage with some of its settings changed, and why it is not known."""
    other = changed or Changed()
    try:
        if isinstance(stage.record, ScoreSpec):
            return _of_scoring(plan, stage, stage.record)
        return _of_networks(plan, stage, other)
    except DistillbenchError as error:
        return None, error.line
    except _OUTLINE as error:
        return None, f"no outline: {' '.join(str(error).split())[:80]}"


def _of_networks(plan: Plan, stage: Stage, other: Changed) -> tuple[Memory | None, str]:
    from distillbench.sample.estimate import sampling_memory
    from distillbench.student.placed import Placed
    from distillbench.train.estimate import training_memory

    named, theirs = stage.plugin("backbone"), stage.plugin("method")
    built = registry.build_backbone(named.name, {**named.params, **other.backbone})
    made = registry.build_method(theirs.name, {**theirs.params, **other.method}, built)
    spec, there = stage.record, None
    if isinstance(spec, SampleSpec) and (spec.sample_on or spec.onto):
        place: PluginRole = "sample_on" if spec.sample_on else "backbone"
        there = registry.build_backbone(*stage.plugin(place))
    needs = [need for one in (made.backbone, there) if one for need in one.requirements()]
    needs += _weights_of_others(stage)
    if lacks := [need.line for need in needs if need.problem]:
        return None, lacks[0]
    how: Any = {"precision": _precision(plan, spec), "batch_size": other.batch_size or _batch(spec)}
    if isinstance(spec, SampleSpec):
        placed = Placed.of(spec.plain(), stage.options.plain(), Path())
        return sampling_memory(made, spec.sampler, on=there, placed=placed, **how), ""
    assert isinstance(spec, TrainSpec)
    ranks = other.ranks or _ranks(spec)
    return training_memory(made, optimizer=spec.train.optimizer, ranks=ranks, **how), ""


def _weights_of_others(stage: Stage) -> list[Need]:
    """Those that samples are made with; pictures and packages have no part in memory."""
    told = Told.model_validate(stage.options.plain())
    return [need for need in needs_of(stage.spec, told) if need.kind == "weights"]


def _of_scoring(plan: Plan, stage: Stage, spec: ScoreSpec) -> tuple[Memory | None, str]:
    """The largest of its published weights: what a device must hold at least."""
    from distillbench.outlines import Memory

    metric = registry.build_metric(*stage.plugin("metric"))
    n = plan.stages[spec.sample].read(SampledSpec).prompts.n
    sizes = [need.size for need in metric.requirements(n) if need.kind == "weights"]
    if not any(sizes):
        return None, "the size of its weights is not known"
    return Memory(max(sizes), 0, 0, 0, unknown="its activations are not reckoned"), ""


def size_text(size: int) -> str:
    """Bytes in a unit of their size."""
    return f"{size / GB:.3g} GB" if size >= GB / 10 else f"{size / 1e6:.3g} MB"
