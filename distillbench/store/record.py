"""What is remembered of a stage: its commit marker, its failure, and the log of all events."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from distillbench.errors import ArtifactError
from distillbench.store.io import read_json, sha256, write_json

__all__ = ["DONE", "Done", "Failure", "event"]

DONE = "done.json"


@dataclass(frozen=True)
class Done:
    """The commit marker of a stage's folder: the size and sha256 of every file in it.

    Attributes:
        files: relative path -> {"size": bytes, "sha256": hex}.
        attempt: which attempt succeeded, from 1.
        finished: seconds since the epoch.
    """

    files: Mapping[str, Mapping[str, Any]]
    attempt: int = 1
    finished: float = field(default_factory=time.time)

    @staticmethod
    def of(folder: Path, *, attempt: int) -> Done:
        """Read sizes and digests of all files under `folder`."""
        paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != DONE)
        files = {
            p.relative_to(folder).as_posix(): {"size": p.stat().st_size, "sha256": sha256(p)}
            for p in paths
        }
        return Done(files=files, attempt=attempt)

    @staticmethod
    def read(folder: Path) -> Done:
        """Read the marker. Raises ArtifactError when it is missing or no marker."""
        raw = read_json(folder / DONE)
        try:
            files = {
                str(k): {"size": v["size"], "sha256": v["sha256"]} for k, v in raw["files"].items()
            }
            return Done(files=files, attempt=raw["attempt"], finished=raw["finished"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(f"{folder / DONE}: truncated or altered (not a marker)") from error

    def write(self, folder: Path) -> None:
        """Write the marker; it is the last file a stage writes."""
        write_json(folder / DONE, asdict(self))

    def check(self, folder: Path, *, digests: bool) -> None:
        """Compare the folder with the marker: sizes always, sha256 when `digests`.

        Raises ArtifactError naming the first file that differs.
        """
        for name, want in self.files.items():
            path = folder / name
            try:
                size = os.stat(path).st_size
            except OSError as error:
                raise ArtifactError(f"{path}: missing") from error
            if size != want["size"]:
                raise ArtifactError(
                    f"{path}: truncated or altered ({size} bytes, not {want['size']})"
                )
            if digests and sha256(path) != want["sha256"]:
                raise ArtifactError(f"{path}: altered (its sha256 differs from {DONE})")


@dataclass(frozen=True)
class Failure:
    """Why a stage ended without a result.

    Attributes:
        error: one line.
        log: path of the stage's captured output, "" when there is none.
        attempt: how many attempts were made.
        lasting: False when its cause lies outside the stage (missing weights, altered input): it
            is remembered for the tables, and the next run simply tries again.
        at: seconds since the epoch.
    """

    error: str
    log: str = ""
    attempt: int = 1
    lasting: bool = True
    at: float = field(default_factory=time.time)

    @staticmethod
    def read(path: Path) -> Failure | None:
        """The record at `path`, None when there is none. Raises ArtifactError when unreadable."""
        if not path.exists():
            return None
        try:
            return Failure(**read_json(path))
        except TypeError as error:
            raise ArtifactError(f"{path}: truncated or altered (not a failure record)") from error

    def write(self, path: Path) -> None:
        """Write the record atomically."""
        write_json(path, asdict(self))


def event(name: str, kind: str, key: str, **fields: Any) -> dict[str, Any]:
    """One line of the store's append-only history."""
    return {"event": name, "kind": kind, "key": key, "at": time.time(), "pid": os.getpid()} | fields
