"""Seconds an update of a training takes on a device: a few updates made and thrown away."""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from distillbench.numerics import Meter
from distillbench.specs.context import Runtime, StageContext
from distillbench.specs.stages import TrainSpec
from distillbench.train.loop import train_stage

__all__ = ["pace"]

LONGEST = 120.0
"""Seconds after which no further update is begun."""


class _EnoughUpdates(Exception):
    """The training has told what it was begun for."""


def pace(spec: TrainSpec, runtime: Runtime, *, device: str, updates: int) -> dict[str, Any]:
    """Train for a few updates in a folder of its own: median seconds of one, and peak bytes.

    The first is not counted. Runs that the training would start from are left out, as they change
    no shape; trainings of several processes are measured in one, and not sharded.

    Raises:
        DistillbenchError: as a training.
    """
    meter, moments = Meter(device), list[float]()

    def look() -> bool:
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        moments.append(time.perf_counter())
        done = len(moments) - 1
        if done > updates or (done > 1 and moments[-1] - moments[0] > LONGEST):
            raise _EnoughUpdates
        return False

    longer = max(spec.train.updates, updates + 2)
    train = spec.train.model_copy(
        update={"updates": longer, "stop": None, "processes": 1, "shard": ""}
    )
    alone = spec.model_copy(update={"train": train, "teacher": None, "init": None})
    context = StageContext(device, should_stop=look, runtime=runtime)
    with tempfile.TemporaryDirectory(prefix="distillbench-") as name:
        out = Path(name) / "out"
        out.mkdir()
        with suppress(_EnoughUpdates):
            train_stage(alone, context, out=out, checkpoints=Path(name) / "checkpoints")
    lasted = [after - before for before, after in itertools.pairwise(moments[1:])]
    peak = meter.totals()["peak_memory_bytes"]
    return {"seconds": statistics.median(lasted), "updates": len(lasted), "peak_memory_bytes": peak}
