"""Names of costs: what a table may show and a curve may be drawn over, as `cost.<name>`."""

from __future__ import annotations

from typing import Final

from distillbench.files.marks import did_you_mean

__all__ = ["COUNTED", "MEASURED", "PREFIX", "cost_name", "unknown_cost"]

PREFIX: Final = "cost."
MEASURED: Final = (
    "train_seconds", "train_cpu_seconds", "device_hours", "peak_memory_mib", "sample_ms",
)  # fmt: skip
"""What another run measures otherwise."""
COUNTED: Final = ("student_updates", "teacher_nfe", "student_nfe", "other_nfe", "evaluations")
"""What every run of a row counts alike."""


def cost_name(field: str) -> str:
    """The cost that a column or an axis names, "" where it names none."""
    name = field.removeprefix(PREFIX)
    return name if field != name and name in (*MEASURED, *COUNTED) else ""


def unknown_cost(field: str) -> str:
    """What is wrong with the name of a cost, "" for nothing or for what names no cost."""
    if not field.startswith(PREFIX) or cost_name(field):
        return ""
    known = [f"{PREFIX}{name}" for name in (*MEASURED, *COUNTED)]
    return f"unknown cost {field!r}; there are: {', '.join(known)}.{did_you_mean(field, known)}"
