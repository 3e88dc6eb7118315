"""What the driver asks of a runner: take stages, say how they ended, stop, kill.

An executor only places processes. Order, retries and the record of failures belong to the driver,
so that a local run and a run on a cluster follow one policy and write one log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from distillbench.plan.stage import Stage
from distillbench.specs.stages import TrainSpec

__all__ = ["Assignment", "Executor", "Result", "Status", "width"]

Status = Literal["done", "cached", "busy", "stopped", "failed", "storage", "oom", "died"]


@dataclass(frozen=True)
class Result:
    """How an attempt at a stage ended.

    Attributes:
        key: the stage.
        status: done | cached (someone else had finished it) | busy (another process runs it now) |
            stopped (it wrote its checkpoint when asked to stop) | failed (its own error) |
            storage (the results folder cannot be written) | oom (out of memory) |
            died (its process ended without an answer).
        error: one line, for the last five.
        log: path of its captured output, "" when there is none.
        lasting: False when the cause lies outside the stage (missing weights, altered input), so
            that the next run simply tries again.
        notes: what it had to tell on the way; the same lines are on its lease while it runs.
    """

    key: str
    status: Status
    error: str = ""
    log: str = ""
    lasting: bool = True
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Assignment:
    """One attempt at a stage, as it travels to a worker.

    Attributes:
        stage: what to do.
        store: the store's folder, as seen by the worker.
        run: names the driver that asks for it.
        device: torch device string.
        attempt: number of this attempt, from 1.
    """

    stage: Stage
    store: str
    run: str = ""
    device: str = "cpu"
    attempt: int = 1

    def to_json(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)

    @staticmethod
    def from_json(raw: Mapping[str, Any]) -> Assignment:
        """Read `to_json`."""
        stage = Stage(**{**raw["stage"], "needs": tuple(raw["stage"]["needs"])})
        return Assignment(**{**raw, "stage": stage})


class Executor(Protocol):
    """Runs stages somewhere; each occupies `width(stage)` slots (processor shares or GPUs)."""

    @property
    def capacity(self) -> int:
        """All slots, busy or not."""

    @property
    def widest(self) -> int:
        """The most slots one stage can ever get."""

    @property
    def free(self) -> int:
        """Slots that a stage could start on now."""

    @property
    def room(self) -> str:
        """What there is to run on, in words."""

    def submit(self, stage: Stage, *, attempt: int) -> None:
        """Start an attempt; the caller has checked that it fits."""

    def poll(self, timeout: float) -> list[Result]:
        """Attempts that ended, waiting at most `timeout` seconds for the first."""

    def stop(self) -> None:
        """Ask all running stages to write a checkpoint and end."""

    def kill(self, key: str) -> None:
        """End a running attempt at once and forget it: `poll` will not report it."""

    def close(self) -> None:
        """End everything that still runs and release the machine."""


def width(stage: Stage) -> int:
    """Slots a stage needs: the data-parallel processes of its training."""
    return stage.read(TrainSpec).train.processes if stage.kind == "train" else 1
