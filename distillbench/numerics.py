"""Process-wide settings that make a stage's numbers repeatable, and what a stage costs."""

from __future__ import annotations

import os
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from distillbench.api.backbone import Backbone

__all__ = ["Meter", "repeatable"]

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


@contextmanager
def repeatable(threads: int = 1) -> Iterator[None]:
    """Run a stage with a fixed thread count and deterministic kernels; restores both after.

    The thread count is part of the result: it decides the order of float sums. Kernels that have
    no deterministic form warn instead of failing; float32 is float32 on every device, also where
    TF32 would be the default.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    debugging: Any = torch.utils.deterministic
    filling, tf32 = debugging.fill_uninitialized_memory, torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    debugging.fill_uninitialized_memory = False  # would write NaN into every new tensor: slow
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])
        debugging.fill_uninitialized_memory = filling
        torch.backends.cudnn.allow_tf32 = tf32


@dataclass
class Meter:
    """Seconds, memory and network evaluations of a stage, carried on over resumes.

    Attributes:
        device: the device whose memory is watched.
        evaluations: role -> samples forwarded through that network; "teacher" is the frozen one, a
            guided evaluation counts two (both branches are computed), and reading features one.
    """

    device: str = "cpu"
    evaluations: Counter[str] = field(default_factory=Counter)
    _seconds: float = 0.0
    _cpu_seconds: float = 0.0
    _peak: float = 0.0

    def __post_init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        if self.device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(self.device)
        with suppress(OSError):  # forgets the peak of earlier stages in this process (Linux)
            _CLEAR.write_text("5")

    def watch(self, backbone: Backbone) -> None:
        """Count every `predict` and `features` of the backbone from now on."""
        for name in ("predict", "features"):
            # Instance attributes over the methods.
            setattr(backbone, name, self._counted(getattr(backbone, name)))

    def _counted(self, inner: Callable[..., Any]) -> Callable[..., Any]:
        def counted(net: Any, x_t: torch.Tensor, *args: Any, **options: Any) -> Any:
            scale = options.get("guidance_scale", 1.0)
            branches = 1 if isinstance(scale, (int, float)) and scale == 1.0 else 2
            self.evaluations[net.name if net is not None else "teacher"] += branches * len(x_t)
            return inner(net, x_t, *args, **options)

        return counted

    def resume(self, earlier: Mapping[str, Any]) -> None:
        """Add the `totals` of the attempts before this one."""
        self._seconds += earlier["seconds"]
        self._cpu_seconds += earlier["cpu_seconds"]
        self._peak = max(self._peak, earlier["peak_memory_bytes"])
        self.evaluations.update(earlier["evaluations"])

    def totals(self) -> dict[str, Any]:
        """JSON-able totals: wall and CPU seconds, peak bytes (of the GPU where there is one)."""
        return {
            "device": self.device,
            "seconds": self._seconds + time.perf_counter() - self._wall,
            "cpu_seconds": self._cpu_seconds + time.process_time() - self._cpu,
            "peak_memory_bytes": max(self._peak, self._peak_now()),
            "evaluations": dict(sorted(self.evaluations.items())),
        }

    def _peak_now(self) -> int:
        if self.device.startswith("cuda"):
            return torch.cuda.max_memory_allocated(self.device)
        with suppress(OSError):
            for line in _STATUS.read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
