"""What a run tells: a live display on a terminal, one plain line per event otherwise.

Both also append their lines to `results/<experiment>/log.txt`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from distillbench.files.io import storage_guard
from distillbench.files.plaintext import visible
from distillbench.plan.stage import Stage

if TYPE_CHECKING:
    from rich.console import Group
    from rich.live import Live

__all__ = ["LiveProgress", "ProgressLog", "open_progress"]

_PLAIN_EVERY = 30.0


@dataclass
class _Track:
    """A running stage as it is shown."""

    stage: Stage
    since: float = field(default_factory=time.monotonic)
    said: float = field(default_factory=time.monotonic)
    event: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fraction(self) -> float:
        """Part done, from 0 to 1."""
        done, total = self._counts
        return min(1.0, done / total) if total else 0.0

    @property
    def _counts(self) -> tuple[int, int]:
        """A training tells step and steps, the others what is done of a total."""
        done = self.event.get("step", self.event.get("done", 0))
        return done, self.event.get("steps", self.event.get("total", 0))

    @property
    def text(self) -> str:
        """Steps, speed and last losses."""
        done, total = self._counts
        parts = [f"{done}/{total}"] if total else []
        if "steps_per_second" in self.event:
            parts.append(f"{self.event['steps_per_second']:.3g} steps/s")
        losses = self.event.get("losses") or {}
        parts += [f"{name} {value:.4g}" for name, value in list(losses.items())[:4]]
        return "  ".join(parts)


class ProgressLog:
    """Plain lines, and the counts and times any display needs.

    Args:
        log: file the lines are appended to.
        stream: where they are shown.
    """

    def __init__(self, log: Path, *, stream: IO[str] | None = None) -> None:
        self.stream = stream or sys.stdout
        self.running: dict[str, _Track] = {}
        self.total = self.cached = self.done = self.failed = self.blocked = 0
        self._work_total = self._work_done = self._work_began = 0.0
        self._began = time.monotonic()
        self._deaf = False
        with storage_guard(log):
            log.parent.mkdir(parents=True, exist_ok=True)
            self._log = open(log, "a", buffering=1, encoding="utf-8")  # noqa: SIM115

    def begin(self, name: str, stages: Mapping[str, Stage], cached: int, work: float) -> None:
        """A run begins: `cached` stages are done, the others are `work` in units of cost."""
        self.total, self.cached, self._work_total = len(stages), cached, work
        self.say(f"{name}: {len(stages)} stages, {cached} cached, {len(stages) - cached} to run")

    def started(self, stage: Stage, attempt: int) -> None:
        """A worker got the stage."""
        self.running[stage.key] = _Track(stage)
        self._work_began = self._work_began or time.monotonic()
        again = f" (attempt {attempt})" if attempt > 1 else ""
        self.say(f"start  {_title(stage)}{again}")

    def moved(self, stage: Stage, event: Mapping[str, Any]) -> None:
        """A running stage told something: step, steps, steps_per_second, losses."""
        track = self.running[stage.key]
        track.event = event
        if track.text and time.monotonic() - track.said > _PLAIN_EVERY:
            track.said = time.monotonic()
            self.tick_line(f"       {_title(stage)}: {track.text}{self._eta_text()}")

    def finished(self, stage: Stage) -> None:
        """A stage is committed."""
        track = self.running.pop(stage.key, None)
        self.done += 1
        self._work_done += stage.cost
        took = f" in {_clock(time.monotonic() - track.since)}" if track else " by another process"
        counts = f" [{self.cached + self.done}/{self.total}]"
        self.say(f"done   {_title(stage)}{took}{counts}{self._eta_text()}")

    def stopped(self, stage: Stage, why: str) -> None:
        """An attempt ended without a verdict on the stage."""
        self.running.pop(stage.key, None)
        self.say(f"stop   {_title(stage)}: {why}")

    def failure(self, stage: Stage, error: str, log: str, blocked: int) -> None:
        """A stage failed for good, and `blocked` stages with it."""
        self.running.pop(stage.key, None)
        self.failed += 1
        self.blocked += blocked
        self.say(f"FAILED {_title(stage)}: {error}")
        if log:
            self.say(f"       log: {log}")
        if blocked:
            self.say(f"       {blocked} stage(s) that need it will not run")

    def say(self, line: str) -> None:
        """Show and log one line."""
        line = visible(" ".join(line.splitlines()))
        self.log(line)
        self.show(line)

    def log(self, line: str) -> None:
        """Log one line with the time of day; a full disk must not take the run's driver down."""
        try:
            self._log.write(f"{datetime.now():%Y-%m-%d %H:%M:%S} {line}\n")
        except (OSError, ValueError) as error:
            self.show(f"log.txt cannot be written ({error}): {line}")

    def show(self, line: str) -> None:
        """Show one line, as long as there is somebody to show it to."""
        with self._shown():
            print(line, file=self.stream, flush=True)

    @contextmanager
    def _shown(self) -> Iterator[None]:
        """A closed or full standard output silences the display, and nothing else."""
        if self._deaf:
            return
        try:
            yield
        except (OSError, ValueError, SystemExit) as error:  # rich raises the last on a broken pipe
            self._deaf = True
            self.log(f"standard output is gone ({error}); the run goes on")

    def tick_line(self, line: str) -> None:
        """Say how a running stage does; a live display shows that itself."""
        self.say(line)

    def tick(self) -> None:
        """Called a few times a second."""

    def close(self) -> None:
        """Say how it went and let go of the terminal and the file."""
        parts = [f"{self.cached} cached", f"{self.done} ran", f"{self.failed} failed"]
        parts += [f"{self.blocked} blocked"] if self.blocked else []
        left = self.total - self.cached - self.done - self.failed - self.blocked
        parts += [f"{left} not run"] if left > 0 else []
        self.say(f"{', '.join(parts)} in {_clock(time.monotonic() - self._began)}")
        with suppress(OSError):
            self._log.close()

    def eta(self) -> float | None:
        """Seconds left, from the work done so far; None before there is anything to tell."""
        halves = sum(t.fraction * t.stage.cost for t in self.running.values())
        part = (self._work_done + halves) / self._work_total if self._work_total else 0.0
        if part < 0.01 or part >= 1:
            return None
        return (time.monotonic() - self._work_began) * (1 - part) / part

    def _eta_text(self) -> str:
        eta = self.eta()
        return "" if eta is None else f", about {_clock(eta)} left"


class LiveProgress(ProgressLog):
    """The same lines, above a table of what runs now."""

    def __init__(self, log: Path, *, stream: IO[str] | None = None) -> None:
        super().__init__(log, stream=stream)
        from rich.console import Console
        from rich.live import Live

        self._console = Console(file=self.stream)
        self._live: Live | None = Live(console=self._console, auto_refresh=False, transient=True)
        self._live.start()

    def show(self, line: str) -> None:
        """Print above the table."""
        style = "bold red" if line.startswith("FAILED") else None
        with self._shown():
            self._console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)

    def tick_line(self, line: str) -> None:
        """The table shows it; the file keeps it."""
        self.log(line)

    def tick(self) -> None:
        """Draw the table."""
        with self._shown():
            if self._live:
                self._live.update(self._table(), refresh=True)

    def close(self) -> None:
        """Remove the table."""
        with self._shown():
            if self._live:
                self._live.stop()
        self._live = None
        super().close()

    def _table(self) -> Group:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        queued = self.total - self.cached - self.done - self.failed - self.blocked
        queued -= len(self.running)
        head = f"{self.cached + self.done}/{self.total} done, {len(self.running)} running"
        head += f", {queued} queued" + (f", {self.failed} failed" if self.failed else "")
        table = Table.grid(padding=(0, 2))
        for track in self.running.values():
            bar = ProgressBar(total=1.0, completed=track.fraction, width=16)
            took = _clock(time.monotonic() - track.since)
            table.add_row(Text(_title(track.stage)), bar, took, Text(track.text))
        return Group(Text(head + self._eta_text(), style="bold"), table)


def open_progress(log: Path, *, stream: IO[str] | None = None) -> ProgressLog:
    """A live display when `stream` (standard output) is a terminal, plain lines otherwise."""
    shown = stream or sys.stdout
    live = not shown.closed and shown.isatty()
    return LiveProgress(log, stream=shown) if live else ProgressLog(log, stream=shown)


def _title(stage: Stage) -> str:
    return f"{stage.kind:<6} {stage.name}"


def _clock(seconds: float) -> str:
    whole = int(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    hours, minutes = whole // 3600, whole % 3600 // 60
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {whole % 60:02d} s"
