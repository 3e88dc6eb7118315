"""The content-addressed store: where a stage's files lie and how they get there.

`<root>/<kind>/<key>/` appears by one rename when everything in it is on the disk, and its
`done.json` names the size and sha256 of each file and holds a digest of itself. Whoever asks
whether a stage is done has every byte of it compared. Beside it, while they are needed:

    <key>.claim        the process that runs the stage right now
    <key>.tmp-*        its unfinished output
    <key>.ckpt         its checkpoints, kept across attempts until the stage is committed
    <key>.failed.json  why the last attempt failed, with <key>.failed.log
    <key>.bad-N        an altered folder that `--retry-failed` moved out of the way
    <key>.redo, .was-N what `--redo-changed` replaces (see `store.redo`)
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Container, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from distillbench.errors import ArtifactError
from distillbench.files.io import append_jsonl, fsync_dir, fsync_file, remove, storage_guard
from distillbench.store import redo
from distillbench.store.lease import Holder, Lease, clear
from distillbench.store.record import Done, Failure, event

__all__ = ["KINDS", "Store"]

KINDS = ("train", "sample", "score")
_REDO = "`distillbench run FILE --retry-failed` moves the folder aside and redoes the stage"


class Store:
    """The results of all stages under one folder (`results/store`)."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    def prepare(self) -> None:
        """Make the folders and remove what dead processes left behind. Raises StorageError."""
        with storage_guard(self.root):
            for kind in KINDS:
                (self.root / kind).mkdir(parents=True, exist_ok=True)
            self.sweep()

    def path(self, kind: str, key: str) -> Path:
        """The folder of a finished stage."""
        return self.root / kind / key

    def checkpoints(self, kind: str, key: str) -> Path:
        """The folder of a stage's checkpoints: the same one for every attempt."""
        return self.root / kind / f"{key}.ckpt"

    def lease_path(self, kind: str, key: str) -> Path:
        """The file that names the process running the stage."""
        return self.root / kind / f"{key}.claim"

    def failure_log(self, kind: str, key: str) -> Path:
        """Captured output of the last failed attempt."""
        return self.root / kind / f"{key}.failed.log"

    def keys(self, kind: str, *, but: Container[str] = ()) -> Iterator[str]:
        """Keys of the finished stages of a kind, sorted; those in `but` are not looked at."""
        folder = self.root / kind
        names = sorted(os.listdir(folder)) if folder.is_dir() else []
        return (n for n in names if "." not in n and n not in but and self.is_done(kind, n))

    def is_done(self, kind: str, key: str) -> bool:
        """Whether the stage is committed and every byte of it is what was committed."""
        folder = os.path.join(self.root, kind, key)  # a grid asks very often
        with suppress(ArtifactError), storage_guard(folder):
            if os.path.isdir(folder):
                self._check(folder)
                return True
        return False

    def problem(self, kind: str, key: str) -> str | None:
        """Why a stage that ran cannot be used, with what to do; None when it is done or new.

        Raises:
            StorageError: its files cannot be read.
        """
        folder = os.path.join(self.root, kind, key)
        try:
            with storage_guard(folder):
                if os.path.isdir(folder):
                    self._check(folder)
                    return None
                failure = self.failure(kind, key)
        except ArtifactError as error:
            return ArtifactError(str(error), hint=_REDO).line
        lasts = failure is not None and failure.lasting
        return f"{failure.error} (--retry-failed tries again)" if failure and lasts else None

    def reason(self, kind: str, key: str) -> str:
        """Why a stage has no result: its problem, or what ended its last attempt; "" when new."""
        problem = self.problem(kind, key)
        if problem is not None or self.path(kind, key).is_dir():
            return problem or ""
        failure = self.failure(kind, key)
        return failure.error if failure is not None else ""

    def is_outdated(self, kind: str, key: str) -> bool:
        """Whether a finished stage was made from another input than is stored now."""
        try:
            return bool(Done.read(self.path(kind, key)).outdated_by(self.root))
        except ArtifactError:
            return False

    def is_current(self, kind: str, key: str) -> bool:
        """Whether the stage is done and is not one that a `redo` is still to replace."""
        return self.is_done(kind, key) and not redo.awaited(self.path(kind, key))

    def verify(self, kind: str, key: str) -> Path:
        """Check every byte of a finished stage before its files are used; return its folder.

        Raises:
            ArtifactError: it is missing or altered.
        """
        folder = self.path(kind, key)
        if not folder.is_dir():
            raise ArtifactError(f"{folder}: missing", hint="A run of its experiment makes it")
        problem = self.problem(kind, key)
        if problem is not None:
            raise ArtifactError(problem)
        return folder

    def content(self, kind: str, key: str) -> str:
        """Digest of what other stages read of a finished stage. Raises ArtifactError."""
        return Done.read(self.path(kind, key)).content

    def begin(self, kind: str, key: str, *, token: str = "") -> Path:
        """Make a fresh folder for a stage's output.

        Args:
            token: of the lease it is made under; whoever clears that lease removes the folder.
        """
        folder = self.root / kind / f"{key}.tmp-{token or secrets.token_hex(6)}"
        with storage_guard(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            self._failed(kind, key).unlink(missing_ok=True)
            folder.mkdir()
        return folder

    def discard(self, kind: str, key: str) -> None:
        """Remove the unfinished output of a stage; its checkpoints stay."""
        for folder in (self.root / kind).glob(f"{key}.tmp-*"):
            shutil.rmtree(folder, ignore_errors=True)

    def commit(
        self,
        tmp: Path,
        kind: str,
        key: str,
        *,
        attempt: int = 1,
        inputs: Mapping[str, str] | None = None,
    ) -> Path:
        """Make `tmp` the stage's folder: sync, `done.json` last, one rename.

        Args:
            inputs: "<kind>/<key>" of each stage it was made from -> `content` of that.

        Raises:
            StorageError: the disk; when someone else committed the stage meanwhile, theirs stays.
        """
        final = self.path(kind, key)
        with storage_guard(final):
            done = Done.of(tmp, attempt=attempt, inputs=inputs)
            for name in done.files:
                fsync_file(tmp / name)
            for folder in [p for p in tmp.rglob("*") if p.is_dir()]:
                fsync_dir(folder)
            done.write(tmp)
            fsync_dir(tmp)
            if self.is_current(kind, key):
                shutil.rmtree(tmp)
                return final
            if redo.awaited(final):
                redo.aside(final, "was")
            os.rename(tmp, final)
            fsync_dir(final.parent)
            self._forget(kind, key)
        return final

    def failure(self, kind: str, key: str) -> Failure | None:
        """The recorded failure of a stage, None when it has none."""
        return Failure.read(self._failed(kind, key))

    def fail(self, kind: str, key: str, failure: Failure) -> None:
        """Record a failure, so that later runs report it and do not repeat it."""
        failure.write(self._failed(kind, key))

    def keep_log(self, kind: str, key: str) -> str:
        """Keep the log of an unfinished attempt beside the stage; its path, "" when it has none."""
        logs = sorted((self.root / kind).glob(f"{key}.tmp-*/log.txt"), key=os.path.getmtime)
        if not logs:
            return ""
        kept = self.failure_log(kind, key)
        with storage_guard(kept):
            os.replace(logs[-1], kept)
        return str(kept)

    def reset(self, kind: str, key: str) -> Path | None:
        """Forget a failure so that the stage runs again; return where an altered folder went."""
        folder = self.path(kind, key)
        with storage_guard(folder):
            self._failed(kind, key).unlink(missing_ok=True)
            if not folder.is_dir() or self.problem(kind, key) is None:
                return None
            return redo.aside(folder, "bad")

    def holder(self, kind: str, key: str) -> Holder | None:
        """The live process that runs the stage, None when nobody does."""
        return Lease.holder_of(self.lease_path(kind, key))

    def free(self, kind: str, key: str) -> Holder | None:
        """The live process that runs the stage; the lease of one that died is removed."""
        return Lease.free(self.lease_path(kind, key))

    def abandon(self, kind: str, key: str, *, run: str) -> str:
        """Clean up after a process of `run` known to be dead; the path of its log, "" for none.

        What a live process of another run has taken since is left alone.
        """
        holder = self.holder(kind, key)
        if holder is not None and holder.run != run:
            return ""
        log = self.keep_log(kind, key)
        clear(self.lease_path(kind, key), Holder.read(self.lease_path(kind, key)))
        self.discard(kind, key)
        return log

    def sweep(self) -> list[Path]:
        """Remove what dead processes left behind; return it.

        A live stage takes its lease before it makes its folder and releases it after the rename,
        so what lies beside a stage without a live lease belongs to nobody: unfinished output, and
        half-written leases and records. Checkpoints stay until their stage is finished.
        """
        removed = [*self._left_requests()]
        for kind in KINDS:
            for moved, folder in redo.orphans(self.root / kind):
                if self.holder(kind, folder.name) is None:
                    os.rename(moved, folder)
        for kind in KINDS:
            for path in sorted((self.root / kind).iterdir()):
                key, _, rest = path.name.removeprefix(".").partition(".")
                if rest and self._is_left(kind, key, path, rest):
                    remove(path)
                    removed.append(path)
        return removed

    def _left_requests(self) -> Iterator[Path]:
        """Remove requests to stop (`.stop-<run>`) of runs that hold no stage any more."""
        leases = [Holder.read(path) for path in self.root.glob("*/*.claim")]
        runs = {holder.run for holder in leases if holder is not None}
        for path in self.root.glob(".stop-*"):
            if path.name.removeprefix(".stop-") not in runs:
                remove(path)
                yield path

    def _is_left(self, kind: str, key: str, path: Path, rest: str) -> bool:
        writer = rest.rpartition(".")[2].partition("-")[0]  # of a half-written record
        if rest.startswith("failed.") and writer.isdigit() and psutil.pid_exists(int(writer)):
            return False
        unfinished = rest.startswith("tmp-") or path.name.startswith(".")
        over = rest in ("ckpt", "failed.json", "failed.log", "claim", "redo")
        replaced = rest.startswith("was-")
        if not (unfinished or over or replaced) or self.holder(kind, key) is not None:
            return False
        if replaced:
            return redo.superseded(self.root, path)
        return unfinished or rest == "claim" or self.is_current(kind, key)

    def log(self, name: str, kind: str, key: str, **fields: object) -> None:
        """Append one line to the store's history, `events.jsonl`."""
        append_jsonl(self.root / "events.jsonl", event(name, kind, key, **fields))

    def _failed(self, kind: str, key: str) -> Path:
        return self.root / kind / f"{key}.failed.json"

    def _check(self, folder: str) -> None:
        """Compare a stage's folder with its marker, and its inputs with what is stored now."""
        done = Done.read(folder)
        done.check(folder)
        if name := done.outdated_by(self.root):
            raise ArtifactError(f"{folder}: made from another {name} than is stored now")

    def _forget(self, kind: str, key: str) -> None:
        """Drop what only an unfinished stage needs."""
        redo.withdraw(self.path(kind, key))
        self._failed(kind, key).unlink(missing_ok=True)
        self.failure_log(kind, key).unlink(missing_ok=True)
        shutil.rmtree(self.checkpoints(kind, key), ignore_errors=True)
