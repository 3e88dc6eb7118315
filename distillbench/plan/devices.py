"""Which processors and GPUs a run may use, found without importing torch."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from contextlib import suppress
from pathlib import Path

from distillbench.errors import BadInput

__all__ = [
    "choose_gpus", "device_name", "gpu_memory", "gpu_names", "processors", "visible_gpus",
]  # fmt: skip


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


def device_name(gpu: bool) -> str:
    """The model of the first GPU this process may use, or of the processor."""
    if gpu:
        return gpu_names().partition(", ")[0]
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def gpu_memory() -> tuple[int, ...]:
    """Bytes of each of the GPUs this process may use, as far as the driver tells."""
    sizes = _told("--query-gpu=memory.total", "--format=csv,noheader,nounits")
    known = [int(size) << 20 for size in sizes if size.isdigit()]
    return tuple(known[int(i)] for i in visible_gpus() if i.isdigit() and int(i) < len(known))


def _listed() -> list[str]:
    """One line for each GPU the driver shows."""
    return [line for line in _told("-L") if line.startswith("GPU ")]


def _told(*words: str) -> list[str]:
    """What the driver's tool answers; nothing where there is none."""
    command = ["nvidia-smi", *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines()]
