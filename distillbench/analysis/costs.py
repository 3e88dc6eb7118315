"""Costs: what a table may show and a curve may be drawn over, as `cost.<name>`, and where it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from distillbench.files.marks import did_you_mean
from distillbench.plan.stage import StageKind

__all__ = [
    "COSTS", "COUNTED", "MEASURED", "PREFIX", "Cost", "cost_name", "has_loading", "unknown_cost",
]  # fmt: skip

PREFIX: Final = "cost."
Cost = Mapping[str, Any]
"""What a stage's cost.json holds; of a training also `samples_per_update`, as asked for."""


def _evaluations(role: str) -> Callable[[Cost], float | None]:
    def read(cost: Cost) -> float | None:
        count: float | None = cost.get("evaluations", {}).get(role)
        return count

    return read


def _other_evaluations(cost: Cost) -> float | None:
    known = cost.get("evaluations", {})
    rest = [n for role, n in known.items() if role not in ("teacher", "student")]
    return sum(rest) if rest else None


def _memory(cost: Cost) -> float | None:
    peak = cost.get("peak_memory_bytes")
    return None if peak is None else peak / 2**20


def _per_sample(cost: Cost) -> float | None:
    parts = (
        ("timed_seconds", "timed_samples") if "timed_samples" in cost else ("seconds", "samples")
    )
    seconds, samples = (float(cost.get(part) or 0) for part in parts)
    return 1000 * seconds / samples if samples else None


def has_loading(measure: str, cost: Cost) -> bool:
    """Whether a cost of samples was measured with all that goes before the first of them."""
    untimed = bool(cost.get("samples")) and not cost.get("timed_samples")
    return measure == "sample_ms" and untimed


def _device_hours(cost: Cost) -> float | None:
    """Of all devices that a data-parallel training ran on (TDM, arXiv 2503.06674, table 3)."""
    return cost["seconds"] * cost.get("processes", 1) / 3600 if "seconds" in cost else None


def _compute_hours(cost: Cost) -> float | None:
    """GPU-hours where it ran on GPUs; on processors their hours, which other work is no part of."""
    if str(cost.get("device", "")).startswith("cuda"):
        return _device_hours(cost)
    return cost["cpu_seconds"] / 3600 if "cpu_seconds" in cost else None


def _samples(cost: Cost) -> float | None:
    """Samples that updates of the student were made of, by all processes."""
    per_update: float | None = cost.get("samples_per_update")
    return None if per_update is None else per_update * cost.get("student_updates", 0)


def _plain(name: str) -> Callable[[Cost], float | None]:
    return lambda cost: cost.get(name)


COSTS: Mapping[str, tuple[StageKind, Callable[[Cost], float | None]]] = {
    "train_seconds": ("train", _plain("seconds")),
    "train_cpu_seconds": ("train", _plain("cpu_seconds")),
    "device_hours": ("train", _device_hours),
    "compute_hours": ("train", _compute_hours),
    "student_updates": ("train", _plain("student_updates")),
    "train_samples": ("train", _samples),
    "teacher_nfe": ("train", _evaluations("teacher")),
    "student_nfe": ("train", _evaluations("student")),
    "other_nfe": ("train", _other_evaluations),
    "peak_memory_mib": ("train", _memory),
    "sample_ms": ("sample", _per_sample),
}
"""Measure -> the stage whose cost.json has it, and how it is got from there."""

COUNTED: Final = (
    "student_updates", "train_samples", "teacher_nfe", "student_nfe", "other_nfe", "evaluations",
)  # fmt: skip
"""What every run of a row counts alike; `evaluations`, of one sample, are the plan's."""
MEASURED: Final = tuple(name for name in COSTS if name not in COUNTED)
"""What another run measures otherwise."""


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
