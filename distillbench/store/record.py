"""What is remembered of a stage: its commit marker, its failure, and the log of all events."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from distillbench.errors import ArtifactError
from distillbench.files.hashes import Book, folder_book, open_book
from distillbench.files.io import json_text, read_json, sha256, storage_guard, write_json

__all__ = ["DONE", "Done", "Failure", "check_folder", "event", "read_sealed", "seal", "unseal"]

DONE = "done.json"
RECORDS = frozenset({"cost.json", "log.txt", "provenance.json", "spec.json", "train.jsonl"})
"""Files of a stage that tell how it went; no other stage reads them."""
_UNSEALED = {"attempt", "files", "finished"}  # the fields of markers before there were seals


def seal(body: Mapping[str, Any]) -> dict[str, Any]:
    """The record with a digest of itself, so that no digit of it can change unseen."""
    return {**body, "seal": hashlib.sha256(json_text(body).encode()).hexdigest()}


def unseal(sealed: Mapping[str, Any]) -> dict[str, Any]:
    """What `seal` was given. Raises ValueError when it is not the same any more."""
    body = {name: value for name, value in sealed.items() if name != "seal"}
    if seal(body) != sealed:
        raise ValueError("its own digest differs")
    return body


def read_sealed(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The sound records of a file with a sealed one a line, and how many lines are not sound."""
    if not path.exists():
        return [], 0
    *lines, torn = path.read_bytes().split(b"\n")
    sound, bad = [], int(bool(torn))
    for line in lines:
        try:
            sound.append(unseal(json.loads(line)))
        except (ValueError, AttributeError):
            bad += 1
    return sound, bad


@dataclass(frozen=True)
class Done:
    """The commit marker of a folder: the size and sha256 of every file in it.

    Attributes:
        files: relative path -> {"size": bytes, "sha256": hex}.
        attempt: which attempt succeeded, from 1.
        finished: seconds since the epoch.
        inputs: "<kind>/<key>" of each stage it was made from -> `content` of that.
    """

    files: Mapping[str, Mapping[str, Any]]
    attempt: int = 1
    finished: float = field(default_factory=time.time)
    inputs: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def of(folder: Path, *, attempt: int = 1, inputs: Mapping[str, str] | None = None) -> Done:
        """Read sizes and digests of all files under `folder`."""
        paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != DONE)
        files = {
            p.relative_to(folder).as_posix(): {"size": p.stat().st_size, "sha256": sha256(p)}
            for p in paths
        }
        return Done(files=files, attempt=attempt, inputs=dict(inputs or {}))

    @staticmethod
    def read(folder: Path | str) -> Done:
        """Read the marker. Raises ArtifactError when it is missing, no marker, or altered."""
        path = os.path.join(folder, DONE)
        with storage_guard(path):
            try:
                stat = os.stat(path)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise ArtifactError(f"{path}: missing") from error
            seen = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
            known = _markers.get(path)
            if known is None or known[0] != seen:
                known = _markers[path] = seen, _read(Path(path))
            return known[1]

    @cached_property
    def content(self) -> str:
        """Digest of what other stages read of the folder."""
        read = sorted((n, file["sha256"]) for n, file in self.files.items() if n not in RECORDS)
        # What json_text writes of that mapping; its encoder is too slow for very many stages.
        lines = ",".join(f"\n {json.dumps(name)}: {json.dumps(sha256)}" for name, sha256 in read)
        text = f"{{{lines}\n}}\n" if lines else json_text({})
        return hashlib.sha256(text.encode()).hexdigest()

    def write(self, folder: Path) -> None:
        """Write the marker; it is the last file a stage writes."""
        write_json(folder / DONE, seal(asdict(self)))

    def outdated_by(self, root: Path) -> str:
        """The first of its `inputs` that is stored with other content now, "" for none."""
        for name, content in self.inputs.items():
            try:
                if Done.read(os.path.join(root, name)).content != content:
                    return name
            except ArtifactError:
                continue  # one that is gone or damaged is the source's own problem
        return ""

    def check(self, folder: Path | str) -> None:
        """Compare every file of the folder with the marker, byte for byte.

        Digests are remembered for as long as a file stays as it is, in one book a store.

        Raises:
            ArtifactError: names the first file that differs, and in what.
            StorageError: a file cannot be read.
        """
        book = open_book(_book_of(os.path.abspath(folder)))
        with storage_guard(folder):
            for name, want in self.files.items():
                _compare(os.path.join(folder, name), want, book)


def check_folder(folder: Path) -> None:
    """Check every byte of a stage's folder; one that no stage made has no marker and passes.

    Raises:
        ArtifactError: it is not what its stage committed.
    """
    if (folder / DONE).exists() or (folder / "spec.json").exists():
        Done.read(folder).check(folder)


def _book_of(folder: str) -> str:
    return _store_book(os.path.dirname(os.path.dirname(folder)))


@cache
def _store_book(root: str) -> str:
    return folder_book("store", Path(root))


def _compare(path: str, want: Mapping[str, Any], book: Book) -> None:
    try:
        stat = os.stat(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ArtifactError(f"{path}: missing") from error
    if (size := stat.st_size) != want["size"]:
        raise ArtifactError(f"{path}: truncated or altered ({size} bytes, not {want['size']})")
    # A digest that was remembered wrongly must not condemn a sound file.
    found = book.sha256(path, stat)
    if found != want["sha256"] and (found := sha256(Path(path))) != want["sha256"]:
        was = str(want["sha256"])
        raise ArtifactError(f"{path}: altered (sha256 {found[:12]}, {DONE} says {was[:12]})")


_markers: dict[str, tuple[tuple[int, ...], Done]] = {}
"""Path of a marker -> what it says, and what told that state of the file from another."""


def _read(path: Path) -> Done:
    """Parse a marker."""
    try:
        text = path.read_bytes()
        body = json.loads(text)
        if not isinstance(body, dict) or (body.keys() != _UNSEALED and not _sealed(text)):
            raise ValueError("not a marker")
        body.pop("seal", None)
        files = {
            sys.intern(k): {"size": v["size"], "sha256": v["sha256"]}
            for k, v in body["files"].items()
        }
        return Done(**{**body, "files": files})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{path}: truncated or altered (not a marker, or changed)") from error


def _sealed(text: bytes) -> bool:
    """Whether the text is, to the byte, what `json_text` writes of a sealed marker.

    The seal stands last in it and is of the text without it, so that nothing is written anew.
    """
    body, _, seal = text.rpartition(b',\n "seal": "')
    return seal == hashlib.sha256(body + b"\n}\n").hexdigest().encode() + b'"\n}\n'


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
