"""Which processors and GPUs a run may use, found without importing torch."""

from __future__ import annotations

import os
import subprocess

from distillbench.errors import BadInput

__all__ = ["choose_gpus", "processors", "visible_gpus"]


def processors() -> int:
    """Processors this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def visible_gpus() -> tuple[str, ...]:
    """Ids of the NVIDIA GPUs of this machine, those in CUDA_VISIBLE_DEVICES where it is set."""
    try:
        listing = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    found = tuple(str(i) for i, line in enumerate(listing.splitlines()) if line.startswith("GPU "))
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
