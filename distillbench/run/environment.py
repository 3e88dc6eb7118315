"""Settings of a worker process that must not depend on the machine or its load."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

__all__ = ["captured", "set_threads", "worker_environment"]

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def worker_environment(threads: int) -> dict[str, str]:
    """Environment variables a worker starts with, beside the user's own.

    The hub is off unless the user's environment says otherwise (HF_HUB_OFFLINE=0): weights come
    from this disk, so that a run cannot change under our feet or hang on a network.
    """
    offline = os.environ.get("HF_HUB_OFFLINE", "1")
    return {
        **dict.fromkeys(_THREADS, str(threads)),
        # Spinning threads of one worker would slow all the others down.
        "OMP_WAIT_POLICY": "passive",
        "HF_HUB_OFFLINE": offline,
        "TRANSFORMERS_OFFLINE": os.environ.get("TRANSFORMERS_OFFLINE", offline),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        # Without it cuBLAS may sum in another order from one run to the next.
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    }


def set_threads(threads: int) -> None:
    """Fix the number of threads of sums: the result of one depends on it in the last bits."""
    os.environ.update(dict.fromkeys(_THREADS, str(threads)))
    if "torch" in sys.modules:  # otherwise torch reads the variables when it is imported
        import torch

        torch.set_num_threads(threads)


@contextmanager
def captured(path: Path) -> Iterator[None]:
    """Send standard output and error to the file `path`, those of subprocesses too."""
    with open(path, "a", buffering=1, encoding="utf-8") as log:
        saved = os.dup(1), os.dup(2)
        for target in (1, 2):
            os.dup2(log.fileno(), target)
        try:
            with redirect_stdout(log), redirect_stderr(log):
                yield
        finally:
            for target, handle in zip((1, 2), saved):
                os.dup2(handle, target)
                os.close(handle)
