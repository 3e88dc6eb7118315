"""Who is working on a stage right now: one file per stage that only its holder may rewrite.

The file names the process that runs the stage and holds its last progress event; its modification
time changes with every heartbeat. Two drivers on one results folder therefore never run one
stage twice at the same time, whatever runner they use, and a driver reads a worker's progress from
it. Clocks of different machines are never compared: whether a holder elsewhere lives is told by
watching its file change, for as long as our own clock says.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from distillbench.errors import Interrupted
from distillbench.files.io import storage_guard

__all__ = ["ALIVE_EVERY", "DEAD_AFTER", "Holder", "Lease", "clear"]

ALIVE_EVERY = 10.0
"""Seconds between two signs of life of a holder."""
DEAD_AFTER = 120.0
"""Seconds we watch a holder on another machine without a heartbeat before it counts as dead."""
_WRITE_EVERY = 0.5


@cache
def _place() -> str:
    """The machine and its boot, and the process-id namespace where there is one (containers)."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    return socket.gethostname()


def _born(pid: int) -> float:
    """When the process started, so that a reused id is not taken for it; 0 when it is gone."""
    try:
        process = psutil.Process(pid)
        return 0.0 if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return 0.0


@dataclass(frozen=True)
class Holder:
    """The process that holds a lease.

    Attributes:
        token: names this lease; a holder whose token left the file has lost it.
        place, pid, born: the process.
        run: the run (one start of a driver) it works for, "" for none.
        attempt: attempt number, from 1.
        progress: its last progress event.
        moved: when that event came, by the holder's clock.
        notes: what it had to tell once and for all (a checkpoint that was damaged).
    """

    token: str
    place: str
    pid: int
    born: float
    run: str = ""
    attempt: int = 1
    progress: Mapping[str, Any] = field(default_factory=dict)
    moved: float = field(default_factory=time.time)
    notes: Sequence[str] = ()

    @staticmethod
    def read(path: Path) -> Holder | None:
        """The holder on record, None when there is none (or it died before naming itself)."""
        try:
            return Holder(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    @property
    def here(self) -> bool:
        """Whether its process id means something on this machine."""
        return self.place == _place()

    @property
    def name(self) -> str:
        """For messages."""
        return f"process {self.pid} on {self.place.split()[0]}"


class _Watch:
    """How long files have not changed, by this process's monotonic clock."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[tuple[int, ...], float]] = {}

    def still_for(self, path: Path) -> float:
        """Seconds since we last saw the file change; 0 when it is new to us."""
        try:
            stat = path.stat()
        except OSError:
            self._seen.pop(path, None)
            return float("inf")
        version = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        known, since = self._seen.get(path, ((), 0.0))
        if version != known:
            since = time.monotonic()
            self._seen[path] = (version, since)
        return time.monotonic() - since


_watch = _Watch()


def _alive(path: Path, holder: Holder | None) -> bool:
    if holder is None:  # being written right now, or its writer died while writing
        return _watch.still_for(path) < ALIVE_EVERY
    if holder.here:
        born = _born(holder.pid)
        return born > 0 and abs(born - holder.born) < 1.0
    return _watch.still_for(path) < DEAD_AFTER


class Lease:
    """The right to run one stage, held by this process until `release`."""

    def __init__(self, path: Path, holder: Holder) -> None:
        self.path = path
        self.holder = holder
        self._written = float("-inf")
        self._lock = threading.Lock()
        self._over = threading.Event()
        threading.Thread(target=self._live, name="lease", daemon=True).start()

    @staticmethod
    def holder_of(path: Path) -> Holder | None:
        """Who holds the lease and is alive, or None when it is free to take.

        A holder on another machine is alive when first seen; a process that asks again knows more.
        """
        holder = Holder.read(path)
        if path.exists() and _alive(path, holder):
            return holder or Holder("", "an unknown machine", 0, 0.0)
        return None

    @staticmethod
    def free(path: Path) -> Holder | None:
        """Remove the lease of a dead holder; return the holder when it is alive.

        Whoever watched a holder die clears its lease: the process that takes the stage next may
        see the file for the first time.
        """
        holder = Lease.holder_of(path)
        if holder is None and path.exists():
            clear(path, Holder.read(path))
        return holder

    @staticmethod
    def take(path: Path, *, run: str = "", attempt: int = 1) -> Lease | None:
        """Claim the stage for this process; None when a live process holds it already."""
        token = secrets.token_hex(8)
        pid = os.getpid()
        holder = Holder(token, _place(), pid, _born(pid), run=run, attempt=attempt)
        with storage_guard(path):
            for _ in range(2):
                if _create(path, holder):
                    return Lease(path, holder)
                if Lease.free(path) is not None:
                    return None
        return None

    def beat(self, progress: Mapping[str, Any]) -> None:
        """Publish a progress event (at most two a second).

        Raises Interrupted when another process took the lease over in the meantime.
        """
        with self._lock:
            self.holder = replace(self.holder, progress=dict(progress), moved=time.time())
            if time.monotonic() - self._written >= _WRITE_EVERY:
                self._publish()

    def note(self, text: str) -> None:
        """Publish a line at once; it stays on the lease. Raises Interrupted like `beat`."""
        with self._lock:
            notes = (*self.holder.notes, text)
            self.holder = replace(self.holder, notes=notes, moved=time.time())
            self._publish()

    def _publish(self) -> None:
        if self._over.is_set():
            return
        self._written = time.monotonic()
        self.ensure_held()
        scratch = self.path.with_name(f".{self.path.name}.{self.holder.token}")
        with storage_guard(self.path):
            scratch.write_text(json.dumps(asdict(self.holder)), encoding="utf-8")
            os.replace(scratch, self.path)

    def ensure_held(self) -> None:
        """Raise Interrupted when the file no longer names this lease."""
        if not self.held:
            found = Holder.read(self.path)
            raise Interrupted(f"{self.path}: taken over by {found.name if found else 'nobody'}")

    @property
    def held(self) -> bool:
        """Whether the file still names this lease."""
        found = Holder.read(self.path)
        return found is not None and found.token == self.holder.token

    def release(self) -> None:
        """Give the stage up; a lease that was lost is left to its new holder."""
        self._over.set()
        with self._lock, suppress(OSError):  # a lease that cannot be removed dies with its process
            if self.held:
                self.path.unlink(missing_ok=True)

    def _live(self) -> None:
        while not self._over.wait(ALIVE_EVERY):
            with self._lock, suppress(OSError, Interrupted):
                self.ensure_held()
                os.utime(self.path)


def _create(path: Path, holder: Holder) -> bool:
    """Make the file; False when it exists."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return False
    try:
        with open(handle, "w", encoding="utf-8") as file:
            json.dump(asdict(holder), file)
    except OSError:
        path.unlink()
        raise
    return True


def clear(path: Path, holder: Holder | None) -> None:
    """Remove the file of a dead holder, unless another process replaced it a moment ago.

    The folder of its unfinished output, which bears its token, goes too.
    """
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with suppress(FileNotFoundError):
        os.rename(path, aside)
        found = Holder.read(aside)
        if found is not None and (holder is None or found.token != holder.token):
            os.rename(aside, path)
        else:
            aside.unlink()
            if holder is not None:
                left = path.with_name(f"{path.stem}.tmp-{holder.token}")
                shutil.rmtree(left, ignore_errors=True)
