"""How a run is done, how it ended, and the choice of its runner."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from distillbench.errors import BadInput
from distillbench.plan.devices import choose_gpus, processors
from distillbench.plan.stage import Plan
from distillbench.run.executor import Executor, width
from distillbench.run.local import shared
from distillbench.run.trackers import require_trackers, use_trackers
from distillbench.store.layout import Store

__all__ = ["Outcome", "RunOptions", "open_executor"]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How to run, none of which changes a number.

    Attributes:
        runner: "local" worker processes or "ray".
        address: a Ray cluster's address; "" starts a Ray of our own.
        gpus: GPUs to use; None uses all, 0 the processor.
        per_gpu: stages that share a GPU, for students that leave most of one idle.
        workers: stages at once; None is one per GPU, or as many as the processors hold.
        fail_fast: stop at the first failure (running stages write their checkpoints).
        retry_failed: try stages again that failed in an earlier run, and redo altered ones.
        redo_changed: make stages anew that other code made, with all that stands on them.
        stale_after: seconds without a progress event after which a stage counts as hung.
        trackers: what shows losses of running trainings: "tensorboard", "wandb".
        room_wait: seconds to wait for machines when none is left that the next stage fits on.
    """

    runner: Literal["local", "ray"] = "local"
    address: str = ""
    gpus: int | None = None
    per_gpu: int = 1
    workers: int | None = None
    fail_fast: bool = False
    retry_failed: bool = False
    redo_changed: bool = False
    trackers: tuple[str, ...] = ()
    stale_after: float = 1800.0
    room_wait: float = 120.0


@dataclass
class Outcome:
    """How each stage of the plan ended, by key.

    Attributes:
        cached: done before this run, or by another run meanwhile.
        ran: finished in it.
        failed: key -> error line.
        blocked: not run, because a stage it needs failed (or because of fail_fast).
        interrupted: a signal ended the run; stages in no list are still to do.
    """

    cached: list[str] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    blocked: list[str] = field(default_factory=list)
    interrupted: bool = False

    @property
    def exit_code(self) -> int:
        """130 interrupted, 1 some stage failed or was not run, 0 all done."""
        return 130 if self.interrupted else int(bool(self.failed or self.blocked))


def open_executor(plan: Plan, store: Store, options: RunOptions, *, run: str) -> Executor:
    """Start the chosen runner for the driver named `run`.

    Raises:
        BadInput: it lacks what was asked for, or a stage of the plan could never run on it.
    """
    asked = (options.workers, options.gpus, options.per_gpu)
    for name, count in zip(("--workers", "--gpus", "--per-gpu"), asked, strict=True):
        if count is not None and count < (name != "--gpus"):
            raise BadInput(f"{name} {count}: too few")
    require_trackers(options.trackers)
    use_trackers(options.trackers)
    threads = max((s.options.threads for s in plan.stages.values()), default=1)
    if options.per_gpu > 1 and any(width(stage) > 1 for stage in plan.stages.values()):
        what = "--per-gpu: a training with train.processes has GPUs of its own"
        raise BadInput(what, hint="Run such trainings apart, with --only")
    start = _cluster if options.address else _machine
    executor = start(store, options, run, threads)
    try:
        _require_fit(plan, executor)
    except BadInput:
        executor.close()
        raise
    return executor


def _machine(store: Store, options: RunOptions, run: str, threads: int) -> Executor:
    """A runner on this machine: GPUs where there are any, processor shares otherwise."""
    gpus = choose_gpus(options.gpus)
    shares = shared(gpus, options.per_gpu)[: options.workers]
    workers = options.workers or max(1, processors() // threads)
    device = "cuda" if gpus else "cpu"
    if options.runner == "ray":
        from distillbench.run.ray import RayExecutor

        return RayExecutor(
            store.root,
            run=run,
            cpus=workers * threads,
            gpus=len(gpus),
            per_gpu=options.per_gpu,
            limit=options.workers if gpus else None,
            device=device,
            threads=threads,
        )
    from distillbench.run.local import LocalExecutor

    return LocalExecutor(
        store.root,
        run=run,
        slots=shares or tuple(f"cpu{i}" for i in range(workers)),
        device=device,
        threads=threads,
    )


def _cluster(store: Store, options: RunOptions, run: str, threads: int) -> Executor:
    """A cluster that runs already; its GPUs are used unless there are none, or none wanted."""
    if options.runner != "ray":
        raise BadInput("--address names a Ray cluster; it needs --runner ray")
    from distillbench.run.ray import RayExecutor

    return RayExecutor(
        store.root,
        run=run,
        address=options.address,
        limit=options.gpus * options.per_gpu if options.gpus else options.workers,
        per_gpu=options.per_gpu,
        device={None: "", 0: "cpu"}.get(options.gpus, "cuda"),
        threads=threads,
    )


def _require_fit(plan: Plan, executor: Executor) -> None:
    """Refuse a plan with a stage that no amount of waiting would make room for."""
    for stage in plan.stages.values():
        if width(stage) > executor.widest:
            raise BadInput(
                f"{stage.name}: needs {width(stage)} slots (GPUs, or processor "
                f"shares) on one machine; there are {executor.widest} ({executor.room})",
                hint="Lower train.processes, or raise --gpus or --workers",
            )
