"""Seconds a sample takes on a device: a few batches of a student of new weights, thrown away."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import torch

from distillbench.api import registry
from distillbench.data.prompts import planned_prompts
from distillbench.numerics import Meter, repeatable
from distillbench.sample.generate import SampleWork, generate_images, new_net
from distillbench.specs.context import Runtime
from distillbench.specs.stages import SampleSpec
from distillbench.student.files import Student, steer
from distillbench.student.placed import Placed

__all__ = ["pace"]

BATCHES = 3
LONGEST = 120.0
"""Seconds after which no further batch is begun."""


def pace(
    spec: SampleSpec, runtime: Runtime, *, device: str, updates: int, precision: str
) -> dict[str, Any]:
    """Sample and decode a few batches: median seconds of a sample, and peak bytes.

    The first batch is not counted. The student is an untrained one: what it has learned changes no
    shape.

    Args:
        updates: batches are made until as many samples are, at most BATCHES.
        precision: that of the training.

    Raises:
        DistillbenchError: as a sample stage.
    """
    meter = Meter(device)
    student = _student(spec, runtime, device, precision)
    chosen = planned_prompts(runtime.prompts, spec.prompts.sha256).prompts
    size = min(spec.batch_size, spec.prompts.n)
    prompts = [chosen[i % len(chosen)] for i in range(size)]
    work = SampleWork(spec.sampler, prompts, spec.seed, size)
    took: list[float] = []
    with repeatable(runtime.threads):
        for _ in range(1 + max(1, min(BATCHES, updates // size))):
            began = time.perf_counter()
            generate_images(student, work.prompts, sampler=work.sampler, batch_size=size)
            if device.startswith("cuda"):
                torch.cuda.synchronize(device)
            took.append(time.perf_counter() - began)
            if sum(took) > LONGEST:
                break
    counted = took[1:] or took
    peak = meter.totals()["peak_memory_bytes"]
    return {
        "seconds": statistics.median(counted) / size, "updates": size * len(counted),
        "peak_memory_bytes": peak,
    }  # fmt: skip


def _student(spec: SampleSpec, runtime: Runtime, device: str, precision: str) -> Student:
    backbone = registry.build_backbone(*spec.plugin("backbone", runtime))
    method = registry.build_method(*spec.plugin("method", runtime), backbone)
    if spec.sample_on is not None:
        method.backbone = registry.build_backbone(*spec.plugin("sample_on", runtime))
    method.backbone.load(device, dtype=precision)
    placed = Placed.of(spec.plain(), {**runtime.plain(), "n": spec.prompts.n}, Path())
    net = new_net(method, method.backbone)
    steer(method.backbone, net, placed.steers)
    return Student(method, net, placed)
