"""The ranks above 0 of a training that runs in several processes."""

from __future__ import annotations

import os
import sys

from distillbench.errors import Interrupted, NonFiniteLoss, PluginError
from distillbench.numerics import repeatable
from distillbench.train.loop import Trainer
from distillbench.train.ranks import Team
from distillbench.train.work import TrainWork

__all__ = ["follow", "main"]


def follow(work: TrainWork, team: Team) -> None:
    """Train as a rank above 0, which writes nothing and stops when rank 0 does."""
    with repeatable(work.context.runtime.threads):
        trainer = Trainer(work, team)
        try:
            trainer.run()
        except (Interrupted, NonFiniteLoss, PluginError):
            return  # rank 0 reports it


def main(text: str) -> None:
    """Entry of the ranks above 0; `text` is `Work.to_json`."""
    work = TrainWork.from_json(text)
    precision = work.spec.train.precision
    member = Team(int(os.environ["WORLD_SIZE"]), work.context.device, precision)
    try:
        follow(work, member)
    finally:
        member.leave()
    sys.stdout.flush()
    sys.stderr.flush()
    # All is written and told. Threads of the process group have been seen to abort an interpreter
    # that shuts down under them ("terminate called"), which would fail a training that is done.
    os._exit(0)
