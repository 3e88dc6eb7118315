"""One training as all of its processes are told it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from distillbench.specs.context import Runtime, StageContext
from distillbench.specs.stages import TrainSpec

__all__ = ["TrainWork"]


@dataclass(frozen=True)
class TrainWork:
    """What to train and where.

    Attributes:
        out: folder that the student is written into.
        checkpoints: folder of its checkpoints, beside those of the runs it starts from.
    """

    spec: TrainSpec
    context: StageContext
    out: Path
    checkpoints: Path

    def to_json(self) -> str:
        """All that other ranks need: they tell nobody, and stop when rank 0 does."""
        told = {"device": self.context.device, "out": str(self.out),
                "checkpoints": str(self.checkpoints)}  # fmt: skip
        records = {"spec": self.spec.plain(), "runtime": self.context.runtime.plain()}
        return json.dumps({**told, **records})

    @staticmethod
    def from_json(text: str) -> TrainWork:
        """Read `to_json`."""
        told = json.loads(text)
        runtime = Runtime.read(told["runtime"], of="a rank of a training")
        context = StageContext(told["device"], runtime=runtime)
        spec = TrainSpec.read(told["spec"], of="a rank of a training")
        return TrainWork(spec, context, Path(told["out"]), Path(told["checkpoints"]))
