"""What every stage writes into its log.txt: beginning, settings, progress, end and cost.

Whatever the stage and its libraries print, warnings too, stands between these lines.
"""

from __future__ import annotations

import json
import os
import platform
import time
import traceback
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from distillbench.errors import Interrupted
from distillbench.files.io import read_json
from distillbench.run.executor import Assignment

__all__ = ["StageLog"]

_EVERY = 10.0
_TENTHS = 10


class StageLog:
    """Prints into the captured output of a stage; used as a context around it."""

    def __init__(self, job: Assignment, out: Path) -> None:
        self._job = job
        self._out = out
        self._began = self._said = time.monotonic()
        self._tenth = 0

    def __enter__(self) -> StageLog:
        job, stage = self._job, self._job.stage
        where = f"{job.device} of {platform.node()}, process {os.getpid()}"
        _line(
            f"start {stage.kind} {stage.key} ({stage.label or 'no label'}), attempt {job.attempt}"
        )
        _line(f"on {where}, {stage.options.threads} thread(s)")
        _line(f"spec {json.dumps(dict(stage.spec), sort_keys=True, default=str)}")
        return self

    def moved(self, event: Mapping[str, Any]) -> None:
        """Print an event of a stage: every tenth of the work, and every ten seconds."""
        done = event.get("step", event.get("done", 0))
        total = event.get("steps", event.get("total", 0))
        tenth = _TENTHS * done // total if total else 0
        if tenth <= self._tenth and time.monotonic() - self._said < _EVERY:
            return
        self._tenth, self._said = tenth, time.monotonic()
        losses = (f"{name} {value:.6g}" for name, value in (event.get("losses") or {}).items())
        _line("  ".join([f"{done}/{total}", *losses]))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        took = f"after {time.monotonic() - self._began:.1f} s"
        if isinstance(error, Interrupted):
            _line(f"stopped {took}: {error}")
        elif error is not None:
            traceback.print_exception(error)
            _line(f"failed {took}: {type(error).__name__}: {error}")
        else:
            cost = self._out / "cost.json"
            if cost.is_file():
                _line(f"cost {json.dumps(read_json(cost), sort_keys=True)}")
            _line(f"end {took}")


def _line(text: str) -> None:
    print(f"{datetime.now():%Y-%m-%d %H:%M:%S} {text}", flush=True)
