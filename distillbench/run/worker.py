"""Run one stage in this process: take its lease, check inputs, call its function, commit.

Both runners come through here. Nothing a stage does counts until `Store.commit` renamed its folder.
"""

from __future__ import annotations

import importlib
import os
import shutil
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from distillbench.backbones._kept import KEPT
from distillbench.errors import (
    ArtifactError,
    BadInput,
    DistillbenchError,
    Interrupted,
    StorageError,
)
from distillbench.files.io import drafting, storage_error, write_json, write_jsonl
from distillbench.plan.changed import causes_of
from distillbench.plan.provenance import provenance
from distillbench.plan.stage import Stage, lineage
from distillbench.run.environment import captured, set_threads
from distillbench.run.executor import Assignment, Result
from distillbench.run.stagelog import StageLog
from distillbench.run.trackers import Trackers
from distillbench.specs.context import Progress, StageContext
from distillbench.specs.stages import GivenSpec, TrainSpec
from distillbench.store.layout import Store
from distillbench.store.lease import Lease
from distillbench.store.record import read_sealed, seal
from distillbench.store.redo import awaited

__all__ = ["error_line", "run_stage"]

ShouldStop = Callable[[], bool]
STAGE_FUNCTIONS: Mapping[str, str] = {
    "train": "distillbench.train.loop:train_stage",
    "sample": "distillbench.sample.generate:sample_stage",
    "given": "distillbench.sample.given:given_stage",
    "score": "distillbench.score.evaluate:score_stage",
}
"""The function of each kind of stage, imported when the first stage of its kind starts."""
_OOM = ("out of memory", "can't allocate memory", "Cannot allocate memory")


def run_stage(
    stage: Stage,
    *,
    store_root: Path | str,
    run: str = "",
    device: str = "cpu",
    should_stop: ShouldStop = lambda: False,
    attempt: int = 1,
) -> Result:
    """Run a stage to its commit and say how it ended; the stage's own errors are not raised.

    Progress events and the heartbeat go to the stage's lease, where the driver reads them.
    """
    store = Store(store_root)
    job = Assignment(stage, str(store_root), run, device, attempt)
    try:
        leases = _lease(store, job)
    except StorageError as error:
        return Result(stage.key, "storage", error=error.line)
    if not leases:
        return Result(stage.key, "busy")
    try:
        result = _run_leased(store, job, leases, should_stop)
    except Exception as error:
        # What lies there now is the output of whoever thought us dead and took over.
        result = _ended(store, stage, error) if leases[0].held else Result(stage.key, "busy")
    finally:
        for lease in leases:
            lease.release()
    return replace(result, notes=tuple(leases[0].holder.notes))


def _lease(store: Store, job: Assignment) -> list[Lease]:
    """Claims on the stage and on the checkpoints it writes; none while another process has one."""
    leases: list[Lease] = []
    for key in dict.fromkeys((job.stage.key, lineage(job.stage))):
        lease = Lease.take(
            store.lease_path(job.stage.kind, key), run=job.run, attempt=job.attempt
        )  # fmt: skip
        if lease is None:
            for taken in leases:
                taken.release()
            return []
        leases.append(lease)
    return leases


def _run_leased(
    store: Store, job: Assignment, leases: Sequence[Lease], should_stop: ShouldStop
) -> Result:  # fmt: skip
    stage = job.stage
    if store.is_current(stage.kind, stage.key):
        return Result(stage.key, "cached")
    problem = store.problem(stage.kind, stage.key)
    if problem is not None and not awaited(store.path(stage.kind, stage.key)):
        raise ArtifactError(problem)
    store.log("start", stage.kind, stage.key, attempt=job.attempt)
    tmp = store.begin(stage.kind, stage.key, token=leases[0].holder.token)
    trackers = Trackers(stage, store.root.parent)
    with drafting(tmp):
        write_json(tmp / "spec.json", _identity(stage))
        with captured(tmp / "log.txt"), StageLog(job, tmp) as log, trackers:
            set_threads(stage.options.threads)
            attempts = _attempts(store, job, leases[0])
            watchers = (log.moved, trackers.log)
            inputs = _call(store, job, tmp, leases, should_stop, watchers)
        write_json(tmp / "provenance.json", {"attempts": attempts})
    for lease in leases:
        lease.ensure_held()
    store.commit(tmp, stage.kind, stage.key, attempt=job.attempt, inputs=inputs)
    if store.is_current(stage.kind, lineage(stage)):
        shutil.rmtree(store.checkpoints(stage.kind, lineage(stage)), ignore_errors=True)
    store.log("commit", stage.kind, stage.key, attempt=job.attempt)
    return Result(stage.key, "done")


def _identity(stage: Stage) -> dict[str, Any]:
    return {
        "kind": stage.kind,
        "key": stage.key,
        "label": stage.label,
        "needs": list(stage.needs),
        "spec": dict(stage.spec),
        "runtime": dict(stage.runtime),
    }


def _attempts(store: Store, job: Assignment, lease: Lease) -> list[dict[str, Any]]:
    """Provenance of this attempt, after that of the attempts whose checkpoint it continues.

    Checkpoints of other code than this are not continued: they are set aside.
    """
    this = provenance(job.stage, device=job.device, attempt=job.attempt)
    if job.stage.kind != "train":
        return [this]
    folder = store.checkpoints(job.stage.kind, lineage(job.stage))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "attempts.jsonl"
    earlier, bad = read_sealed(path)
    if not earlier and any(folder.glob("step-*")):
        bad = bad or 1
    if bad:
        _note(
            lease, f"{path}: {bad} line(s) missing or altered; where those steps were made is lost"
        )
    if earlier and (causes := causes_of(earlier[-1], this)):
        earlier = []
        if aside := _set_aside(folder):
            made = "; ".join(cause.line for cause in causes)
            _note(lease, f"its checkpoints were made by other code ({made}): not continued but "
                         f"kept in {aside}; the training starts anew")  # fmt: skip
    write_jsonl(path, map(seal, [*earlier, this]))
    return [*earlier, this]


def _set_aside(folder: Path) -> Path | None:
    """Move checkpoints into a folder `was-N` beside them, which goes when the stage is finished.

    The record of who made them is moved last: without it they would pass for ours.
    """
    names = [p.name for p in folder.iterdir() if not p.name.startswith("was-")]
    record = "attempts.jsonl"
    if set(names) <= {record}:
        return None
    aside = folder / f"was-{1 + len(list(folder.glob('was-*')))}"
    aside.mkdir()
    for name in sorted(names, key=lambda name: name == record):
        os.rename(folder / name, aside / name)
    return aside


def _note(lease: Lease, text: str) -> None:
    print(text, flush=True)
    lease.note(text)


def _call(
    store: Store,
    job: Assignment,
    tmp: Path,
    leases: Sequence[Lease],
    should_stop: ShouldStop,
    watchers: Sequence[Progress],
) -> dict[str, str]:
    """Import the stage's function and call it with its inputs, each checked byte for byte.

    Returns what was read: "<kind>/<key>" -> content.
    """
    stage = job.stage

    def progress(event: Mapping[str, Any]) -> None:
        """Pass on an event of a stage; `{"note": text}` is for the user."""
        if "note" in event:
            _note(leases[0], str(event["note"]))
            return
        for watch in watchers:
            watch(event)
        leases[0].beat(event)
        for lease in leases[1:]:
            lease.ensure_held()

    inputs: dict[str, Path | None]
    given = isinstance(stage.record, GivenSpec)
    starts = {"train": stage.needs, "sample": stage.needs[1:]}
    for key in starts.get(stage.kind, ()):  # runs that a training or a student starts from
        store.verify("train", key)
    if stage.kind == "train":
        inputs = {"checkpoints": store.checkpoints("train", lineage(stage))}
    elif given:
        inputs = {}
    elif stage.kind == "sample":
        inputs = {"train_dir": store.verify("train", stage.needs[0])}
    else:
        reference = store.verify("sample", stage.needs[1]) if len(stage.needs) > 1 else None
        inputs = {"sample_dir": store.verify("sample", stage.needs[0]), "reference_dir": reference}
    kinds = {"score": "sample"}
    read = {f"{kinds.get(stage.kind, 'train')}/{key}" for key in stage.needs}
    contents = {name: store.content(*name.split("/")) for name in sorted(read)}
    module, _, name = STAGE_FUNCTIONS["given" if given else stage.kind].partition(":")
    function = getattr(importlib.import_module(module), name)
    context = StageContext(job.device, progress, should_stop, stage.options)
    # A sharded training would keep the whole teacher beside its part of it.
    sharded = isinstance(stage.record, TrainSpec) and bool(stage.record.train.shard)
    with KEPT.stage(lends=stage.kind != "score" and not given and not sharded):
        function(stage.record, context, **inputs, out=tmp)
    return contents


def _ended(store: Store, stage: Stage, error: Exception) -> Result:
    """Clean up after an attempt that raised, and say how it ended."""
    log = ""
    with suppress(StorageError):  # a full disk is told by the error itself
        log = "" if isinstance(error, Interrupted) else store.keep_log(stage.kind, stage.key)
    store.discard(stage.kind, stage.key)
    if isinstance(error, Interrupted):
        return Result(stage.key, "stopped", error=error_line(error))
    known = (
        error
        if isinstance(error, StorageError)
        else storage_error(error, store.path(stage.kind, stage.key))
    )
    if known is not None:
        return Result(stage.key, "storage", error=error_line(known), log=log)
    if _is_oom(error):
        return Result(stage.key, "oom", error=error_line(error), log=log)
    outside = isinstance(error, (ArtifactError, BadInput))
    return Result(stage.key, "failed", error=error_line(error), log=log, lasting=not outside)


def error_line(error: BaseException) -> str:
    """An error as one line, with the place in our own code for those that are not for users."""
    if isinstance(error, DistillbenchError):
        return " ".join(error.line.split())
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "-packages" not in f.filename and not f.filename.startswith("<")]
    where = f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""
    return " ".join(f"{type(error).__name__}: {error}".split())[:500] + where


def _is_oom(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _OOM)
