"""Which processors and GPUs a run may use, found without importing torch."""

from __future__ import annotations

import os
import re
import subprocess

from distillbench.errors import BadInput

__all__ = ["choose_gpus", "gpu_names", "processors", "visible_gpus"]


def processors() -> int:
    """Processors this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def visible_gpus() -> tuple[str, ...]:
    """Ids of the NVIDIA GPUs of this machine, those in CUDA_VISIBLE_DEVICES where it is set."""
    found = tuple(str(i) for i in range(len(_listed())))
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return found
    named = tuple(name.strip() for name in chosen.split(",") if name.strip())
    return tuple(name for name in named if name in found or not name.isdigit())


def choose_gpus(wanted: int | None) -> tuple[str, ...]:
    """The GPUs to use: all of them for None, none for 0.

    Raises:
        BadInput: there are fewer than were asked for.
    """
    if wanted == 0:
        return ()
    found = visible_gpus()
    if wanted is not None and wanted > len(found):
        raise BadInput(
            f"--gpus {wanted}: this machine shows {len(found)} GPU(s)",
            hint="Lower --gpus (0 runs on the processor) or widen CUDA_VISIBLE_DEVICES",
        )
    return found[:wanted]


def gpu_names() -> str:
    """Names of the GPUs this process may use, "" where there are none."""
    names = [re.sub(r"^GPU \d+: (.*?)( \(UUID: .*)?$", r"\1", line) for line in _listed()]
    return ", ".join(names[int(i)] if i.isdigit() else i for i in visible_gpus())


def _listed() -> list[str]:
    """One line for each GPU the driver shows."""
    command = ["nvidia-smi", "-L"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line for line in done.stdout.splitlines() if line.startswith("GPU ")]
