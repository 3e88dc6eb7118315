"""The persistent worker process of the local runner: JSON lines in, JSON lines out.

It leads its own process group. When its standard input ends, the driver is gone (even by kill -9),
and the whole group ends with it; checkpoints on the disk are what the next run continues from.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from dataclasses import asdict
from typing import Any

from distillbench.errors import NotSupported
from distillbench.run.executor import Assignment
from distillbench.run.worker import error_line, run_stage

__all__ = ["main"]


def main(device: str) -> None:
    """Serve jobs until the driver goes away."""
    # Replies get a descriptor of their own: descriptor 1 belongs to whatever a stage prints.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    stop = threading.Event()
    jobs: queue.Queue[dict[str, Any]] = queue.Queue()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides what Ctrl-C means
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    threading.Thread(target=_listen, args=(jobs, stop), daemon=True).start()
    _reply(replies, _greeting(device))
    while True:
        job = Assignment.from_json(jobs.get())
        result = run_stage(
            job.stage,
            store_root=job.store,
            run=job.run,
            device=job.device,
            should_stop=stop.is_set,
            attempt=job.attempt,
        )
        _reply(replies, asdict(result))


def _listen(jobs: queue.Queue[dict[str, Any]], stop: threading.Event) -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if message == "stop":
            stop.set()
        else:
            jobs.put(message)
    os.killpg(os.getpgid(0), signal.SIGKILL)


def _greeting(device: str) -> dict[str, Any]:
    """Say that this process can work on `device`, or why it cannot."""
    try:
        if device.startswith("cuda"):
            import torch

            if not torch.cuda.is_available():
                raise NotSupported(f"torch {torch.__version__} cannot use this machine's GPU")
    except Exception as error:
        return {"ready": False, "error": error_line(error)}
    return {"ready": True, "error": ""}


def _reply(replies: Any, message: dict[str, Any]) -> None:
    replies.write(json.dumps(message) + "\n")
    replies.flush()
