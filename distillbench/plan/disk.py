"""Disk space that the stages of a plan will take, against what is free."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from distillbench.api import registry
from distillbench.api.backbone import Backbone, Footprint
from distillbench.api.method import NetSpec
from distillbench.errors import DistillbenchError
from distillbench.files.places import Need
from distillbench.plan.identity import canonical_json
from distillbench.plan.stage import Stage
from distillbench.specs.settings import MOMENTS
from distillbench.specs.stages import GivenSpec, SampleSpec, ScoreSpec, TrainSpec

__all__ = ["disk_need", "footprint_of"]

CHECKPOINTS = 2
FLOAT32 = 4
ADAPTER_SHARE = 0.078 / 64
"""Adapter parameters per rank and parameter of the network (67.5 of 860 million at rank 64)."""


def disk_need(stages: Iterable[Stage], folder: Path) -> Need | None:
    """Room for all that stages leave and for the checkpoints of the largest training.

    None where no backbone says how large its networks and samples are. The figures are estimates:
    trained weights and averages in float32, moments as the optimizer keeps them, samples
    uncompressed.
    """
    sizes: dict[str, Footprint] = {}
    kept = passing = 0
    for stage in stages:
        left, meanwhile = _writes(stage, sizes)
        kept, passing = kept + left, max(passing, meanwhile)
    if not kept + passing:
        return None
    place = folder.absolute()
    there = next(p for p in (place, *place.parents) if p.exists())
    free = shutil.disk_usage(there).free
    if free >= kept + passing:
        return Need("disk", str(there))
    problem = f"{free / 1e9:.3g} GB are free, about {(kept + passing) / 1e9:.3g} GB will be written"
    return Need("disk", str(there), problem, "make room, or name another folder with --results")


def _writes(stage: Stage, sizes: dict[str, Footprint]) -> tuple[int, int]:
    """Bytes a stage leaves, and bytes it takes while it runs, as far as they are known."""
    spec = stage.record
    if isinstance(spec, ScoreSpec | GivenSpec) or (isinstance(spec, TrainSpec) and not spec.trains):
        return 0, 0
    known = canonical_json(spec.backbone.plain())
    if known not in sizes:
        sizes[known] = footprint_of(_backbone(stage))
    if isinstance(spec, SampleSpec):
        return spec.prompts.n * sizes[known].sample_bytes, 0
    if not sizes[known].parameters:
        return 0, 0
    built = registry.build_method(*stage.plugin("method"), _backbone(stage))
    nets, moments = built.nets(), MOMENTS[spec.train.optimizer]
    trained = {name: _trained(net, sizes[known].parameters) for name, net in nets.items()}
    kept = {name: FLOAT32 * (1 if net.ema is None else 2) + moments for name, net in nets.items()}
    checkpoint = sum(kept[name] * numbers for name, numbers in trained.items())
    return FLOAT32 * trained[built.student], CHECKPOINTS * round(checkpoint)


def _trained(net: NetSpec, parameters: int) -> int:
    """Trained parameters of a role; heads are small."""
    if net.kind == "lora":
        return int(parameters * ADAPTER_SHARE * float(net.opts.get("rank") or 64))
    return parameters if net.kind == "copy" else 0


def _backbone(stage: Stage) -> Backbone:
    return registry.build_backbone(*stage.plugin("backbone"))


def footprint_of(backbone: Backbone) -> Footprint:
    """What its files say; zeros where they do not, or are not on this disk."""
    try:
        return backbone.footprint()
    except DistillbenchError:  # its weights are missing, which is told elsewhere
        return Footprint()
