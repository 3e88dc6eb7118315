"""The process that a stage's pace is measured in: it reads what to time, and tells what it took."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Mapping
from typing import Any

from distillbench.errors import DistillbenchError
from distillbench.specs.context import Runtime
from distillbench.specs.stages import record_of

__all__ = ["main"]

_PACES: Mapping[str, str] = {
    "train": "distillbench.train.pace",
    "sample": "distillbench.sample.pace",
    "score": "distillbench.score.pace",
}


def main() -> None:
    """Measure what standard input says, and tell it on standard output."""
    told: dict[str, Any] = json.load(sys.stdin)
    kind = told["kind"]
    spec = record_of(kind, told["spec"]).read(told["spec"], of="a stage")
    runtime = Runtime.read(told["runtime"], of="a stage")
    how = {"device": told["device"], "updates": told["updates"], **told["beside"]}
    try:
        found = importlib.import_module(_PACES[kind]).pace(spec, runtime, **how)
    except DistillbenchError as error:
        found = {"error": error.line}
    print(json.dumps(found))
