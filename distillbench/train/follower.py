"""The ranks above 0 of a training that runs in several processes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distillbench.errors import Interrupted, NonFiniteLoss
from distillbench.numerics import repeatable
from distillbench.train.loop import Trainer
from distillbench.train.ranks import Team

__all__ = ["follow", "main"]


def follow(job: Mapping[str, Any], team: Team) -> None:
    """Train as a rank above 0, which writes nothing and stops when rank 0 does."""
    paths = Path(job["out"]), Path(job["checkpoints"])
    with repeatable(job["runtime"].get("threads", 1)):
        trainer = Trainer(job["spec"], team, *paths, job["runtime"], lambda _: None, lambda: False)
        try:
            trainer.run()
        except (Interrupted, NonFiniteLoss):
            return  # rank 0 reports it


def main(text: str) -> None:
    """Entry of the ranks above 0; `text` is the job as JSON."""
    job = json.loads(text)
    precision = job["spec"]["train"].get("precision", "float32")
    member = Team(int(os.environ["WORLD_SIZE"]), job["device"], precision)
    try:
        follow(job, member)
    finally:
        member.leave()
    sys.stdout.flush()
    sys.stderr.flush()
    # All is written and told. Threads of the process group have been seen to abort an interpreter
    # that shuts down under them ("terminate called"), which would fail a training that is done.
    os._exit(0)
