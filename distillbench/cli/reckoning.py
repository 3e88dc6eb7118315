"""What a plan tells of memory and hours beside the grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distillbench.plan.stage import Plan
    from distillbench.run.reckon import Reckoned

__all__ = ["Reckoning", "memory_lines"]


@dataclass(frozen=True)
class Reckoning:
    """What is asked for.

    Attributes:
        memory: reckon that of stages, which imports torch.
        calibration: the file hours are told by, where there is one.
        asked: it was named by the user.
    """

    memory: bool
    calibration: Path
    asked: bool

    def memory_of(self, plan: Plan, keys: Sequence[str]) -> list[Reckoned] | None:
        """Of the stages among `keys`; None where it is not asked for."""
        from distillbench.run.reckon import reckon

        return reckon(plan, keys) if self.memory else None

    def hours(self, plan: Plan, keys: Sequence[str]) -> str:
        """A line about them, "" where there is no calibration."""
        from distillbench.run.calibrate import hours_line

        line = hours_line(plan, keys, self.calibration, asked=self.asked)
        return f"  {line}" if line else ""


def memory_lines(reckoned: Sequence[Reckoned] | None) -> list[str]:
    """The memory of each kind of stage, and whether the device here has it."""
    if reckoned is None:
        return []
    from distillbench.run.memory import device_here

    device = device_here(None)
    lines = [f"  memory of the stages, on {device.name} with {device.memory / 1e9:.3g} GB:"]
    for one in reckoned:
        lacks = one.memory is not None and one.memory.total > device.memory
        lines.append(f"    {one.line}{'; does not fit' if lacks else ''}")
    return lines if reckoned else ["  memory: there is nothing left to reckon"]
