"""Who is working on a stage right now: one file per stage that only its holder may rewrite.

The file names the process that runs the stage, holds its last progress event, and its modification
time is the holder's sign of life. Two drivers on one results folder therefore never run one stage
twice at the same time, whatever runner they use, and a driver reads a worker's progress from it.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from distillbench.errors import Interrupted
from distillbench.store.io import storage_guard

__all__ = ["ALIVE_EVERY", "DEAD_AFTER", "Claim", "Holder", "clear"]

ALIVE_EVERY = 10.0
"""Seconds between two signs of life of a holder."""
DEAD_AFTER = 120.0
"""Seconds without a sign of life after which a holder on another machine counts as dead."""
_WRITE_EVERY = 0.5


def _place() -> str:
    """The machine, and the process-id namespace where there is one (containers)."""
    with suppress(OSError):
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
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
    """The process that holds a claim.

    Attributes:
        token: names this claim; a holder whose token left the file has lost it.
        place, pid, born: the process.
        run: the run (one start of a driver) it works for, "" for none.
        attempt: attempt number, from 1.
        progress: its last progress event.
        moved: when that event came, seconds since the epoch.
    """

    token: str
    place: str
    pid: int
    born: float
    run: str = ""
    attempt: int = 1
    progress: Mapping[str, Any] = field(default_factory=dict)
    moved: float = field(default_factory=time.time)

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


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return float("inf")


def _alive(path: Path, holder: Holder | None) -> bool:
    if holder is None:  # being written right now, or its writer died while writing
        return _age(path) < ALIVE_EVERY
    if holder.here:
        born = _born(holder.pid)
        return born > 0 and abs(born - holder.born) < 1.0
    return _age(path) < DEAD_AFTER


class Claim:
    """The right to run one stage, held by this process until `release`."""

    def __init__(self, path: Path, holder: Holder) -> None:
        self.path = path
        self.holder = holder
        self._written = 0.0
        self._lock = threading.Lock()
        self._over = threading.Event()
        threading.Thread(target=self._live, name="claim", daemon=True).start()

    @staticmethod
    def holder_of(path: Path) -> Holder | None:
        """Who holds the claim and is alive, or None when it is free to take."""
        holder = Holder.read(path)
        if path.exists() and _alive(path, holder):
            return holder or Holder("", "an unknown machine", 0, 0.0)
        return None

    @staticmethod
    def take(path: Path, *, run: str = "", attempt: int = 1) -> Claim | None:
        """Claim the stage for this process; None when a live process holds it already."""
        token = secrets.token_hex(8)
        pid = os.getpid()
        holder = Holder(token, _place(), pid, _born(pid), run=run, attempt=attempt)
        with storage_guard(path):
            for _ in range(2):
                if _create(path, holder):
                    return Claim(path, holder)
                if Claim.holder_of(path) is not None:
                    return None
                clear(path, Holder.read(path))
        return None

    def beat(self, progress: Mapping[str, Any]) -> None:
        """Publish a progress event (at most two a second).

        Raises Interrupted when another process took the claim over in the meantime.
        """
        with self._lock:
            now = time.time()
            self.holder = replace(self.holder, progress=dict(progress), moved=now)
            if now - self._written < _WRITE_EVERY or self._over.is_set():
                return
            self._written = now
            self.ensure_held()
            scratch = self.path.with_name(f".{self.path.name}.{self.holder.token}")
            with storage_guard(self.path):
                scratch.write_text(json.dumps(asdict(self.holder)), encoding="utf-8")
                os.replace(scratch, self.path)

    def ensure_held(self) -> None:
        """Raise Interrupted when the file no longer names this claim."""
        if not self.held:
            found = Holder.read(self.path)
            raise Interrupted(f"{self.path}: taken over by {found.name if found else 'nobody'}")

    @property
    def held(self) -> bool:
        """Whether the file still names this claim."""
        found = Holder.read(self.path)
        return found is not None and found.token == self.holder.token

    def release(self) -> None:
        """Give the stage up; a claim that was lost is left to its new holder."""
        self._over.set()
        with self._lock:
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
    """Remove the file of a dead holder, unless another process replaced it a moment ago."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with suppress(FileNotFoundError):
        os.rename(path, aside)
        found = Holder.read(aside)
        if found is not None and (holder is None or found.token != holder.token):
            os.rename(aside, path)
        else:
            aside.unlink()
