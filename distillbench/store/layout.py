"""The content-addressed store: where a stage's files lie and how they get there.

`<root>/<kind>/<key>/` appears by one rename when everything in it is on the disk, and its
`done.json` names the size and sha256 of each file. Beside it, while they are needed:

    <key>.claim        the process that runs the stage right now
    <key>.tmp-*        its unfinished output
    <key>.ckpt         its checkpoints, kept across attempts until the stage is committed
    <key>.failed.json  why the last attempt failed, with <key>.failed.log
    <key>.bad-N        an altered folder that `--retry-failed` moved out of the way
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from distillbench.errors import ArtifactError
from distillbench.store.claim import Claim, Holder, clear
from distillbench.store.io import append_jsonl, fsync_dir, fsync_file, storage_guard
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

    def claim_path(self, kind: str, key: str) -> Path:
        """The file that names the process running the stage."""
        return self.root / kind / f"{key}.claim"

    def failure_log(self, kind: str, key: str) -> Path:
        """Captured output of the last failed attempt."""
        return self.root / kind / f"{key}.failed.log"

    def keys(self, kind: str) -> Iterator[str]:
        """Keys of the finished stages of a kind, sorted."""
        folder = self.root / kind
        names = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
        return (name for name in names if "." not in name and self.is_done(kind, name))

    def is_done(self, kind: str, key: str) -> bool:
        """Whether the stage is committed and its files have their sizes (cheap)."""
        return self.path(kind, key).is_dir() and self.problem(kind, key) is None

    def problem(self, kind: str, key: str) -> str | None:
        """Why a stage that ran cannot be used, with what to do; None when it is done or new."""
        try:
            failure = self.failure(kind, key)
            failure = failure if failure is not None and failure.lasting else None
            if failure is not None and not self.path(kind, key).is_dir():
                return f"{failure.error} (in an earlier run; --retry-failed tries again)"
            if failure is not None:
                raise ArtifactError(failure.error)
            if self.path(kind, key).is_dir():
                Done.read(self.path(kind, key)).check(self.path(kind, key), digests=False)
        except ArtifactError as error:
            return ArtifactError(str(error), hint=_REDO).line
        return None

    def reason(self, kind: str, key: str) -> str:
        """Why a stage has no result: its problem, or what ended its last attempt; "" when new."""
        problem = self.problem(kind, key)
        if problem is not None or self.path(kind, key).is_dir():
            return problem or ""
        failure = self.failure(kind, key)
        return failure.error if failure is not None else ""

    def verify(self, kind: str, key: str) -> Path:
        """Check every byte of a finished stage before its files are used; return its folder.

        Raises ArtifactError; an altered stage is recorded, so that it counts as not done from
        then on and `--retry-failed` redoes it.
        """
        folder = self.path(kind, key)
        try:
            Done.read(folder).check(folder, digests=True)
        except ArtifactError as error:
            if not folder.is_dir():
                raise ArtifactError(str(error), hint="Run the same command again") from error
            self.fail(kind, key, Failure(error=str(error)))
            raise ArtifactError(str(error), hint=_REDO) from error
        return folder

    def begin(self, kind: str, key: str) -> Path:
        """Make a fresh folder for a stage's output; earlier attempts' folders are removed."""
        folder = self.root / kind / f"{key}.tmp-{secrets.token_hex(6)}"
        with storage_guard(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            self.discard(kind, key)
            self._failed(kind, key).unlink(missing_ok=True)
            folder.mkdir()
        return folder

    def discard(self, kind: str, key: str) -> None:
        """Remove the unfinished output of a stage; its checkpoints stay."""
        for folder in (self.root / kind).glob(f"{key}.tmp-*"):
            shutil.rmtree(folder, ignore_errors=True)

    def commit(self, tmp: Path, kind: str, key: str, *, attempt: int = 1) -> Path:
        """Make `tmp` the stage's folder: sync, `done.json` last, one rename.

        Raises StorageError; when the stage was committed by someone else meanwhile, theirs stays.
        """
        final = self.path(kind, key)
        with storage_guard(final):
            done = Done.of(tmp, attempt=attempt)
            for name in done.files:
                fsync_file(tmp / name)
            for folder in [p for p in tmp.rglob("*") if p.is_dir()]:
                fsync_dir(folder)
            done.write(tmp)
            fsync_dir(tmp)
            if self.is_done(kind, key):
                shutil.rmtree(tmp)
                return final
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
            if not folder.is_dir() or self._intact(folder):
                return None
            taken = len(list(folder.parent.glob(f"{key}.bad-*")))
            aside = folder.with_name(f"{key}.bad-{taken + 1}")
            os.rename(folder, aside)
        return aside

    def holder(self, kind: str, key: str) -> Holder | None:
        """The live process that runs the stage, None when nobody does."""
        return Claim.holder_of(self.claim_path(kind, key))

    def abandon(self, kind: str, key: str, *, run: str) -> str:
        """Clean up after a process of `run` known to be dead; the path of its log, "" for none.

        What a live process of another run has claimed since is left alone.
        """
        holder = self.holder(kind, key)
        if holder is not None and holder.run != run:
            return ""
        clear(self.claim_path(kind, key), Holder.read(self.claim_path(kind, key)))
        log = self.keep_log(kind, key)
        self.discard(kind, key)
        return log

    def sweep(self) -> list[Path]:
        """Remove unfinished output whose process is dead; return what was removed.

        A live stage claims before it makes its folder and releases after the rename, so output
        without a live claim belongs to nobody.
        """
        removed = []
        for kind in KINDS:
            for folder in sorted((self.root / kind).glob("*.tmp-*")):
                if self.holder(kind, folder.name.split(".tmp-")[0]) is None:
                    shutil.rmtree(folder, ignore_errors=True)
                    removed.append(folder)
        return removed

    def log(self, name: str, kind: str, key: str, **fields: object) -> None:
        """Append one line to the store's history, `events.jsonl`."""
        append_jsonl(self.root / "events.jsonl", event(name, kind, key, **fields))

    def _failed(self, kind: str, key: str) -> Path:
        return self.root / kind / f"{key}.failed.json"

    def _intact(self, folder: Path) -> bool:
        try:
            Done.read(folder).check(folder, digests=True)
        except ArtifactError:
            return False
        return True

    def _forget(self, kind: str, key: str) -> None:
        """Drop what only an unfinished stage needs."""
        self._failed(kind, key).unlink(missing_ok=True)
        self.failure_log(kind, key).unlink(missing_ok=True)
        shutil.rmtree(self.checkpoints(kind, key), ignore_errors=True)
