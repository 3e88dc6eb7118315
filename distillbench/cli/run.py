"""`distillbench run`: train, sample, score, tabulate; the same command resumes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distillbench.cli import arguments
from distillbench.cli.changed import changed_lines, older_lines
from distillbench.cli.common import (
    examples,
    open_experiment,
    print_json,
    require_writable,
    store_of,
)
from distillbench.cli.needs import StoreWithReasons, refuse
from distillbench.cli.plan import show_plan
from distillbench.cli.table import print_tables, report_json

if TYPE_CHECKING:
    from distillbench.experiment.schema import Experiment
    from distillbench.plan.requirements import Requirement
    from distillbench.plan.stage import Plan
    from distillbench.run.options import Outcome, RunOptions
    from distillbench.run.redo import Surveyed

__all__ = ["EPILOG", "execute_part", "finish", "run"]

EPILOG = examples(
    "distillbench run experiments/smoke.yaml",
    "distillbench run experiments/table1.yaml --only 'method=tdm,lcm nfe=4' -n",
    "distillbench run experiments/table1.yaml --profile paper --runner ray --gpus 8",
    "distillbench run experiments/smoke.yaml --set seeds=[0,1,2] --workers 2",
    "distillbench run experiments/table1.yaml --profile paper --allow-missing",
    "distillbench run experiments/table1.yaml --redo-changed",
)


FailFastOption = Annotated[bool, typer.Option("--fail-fast", help="Stop at the first failure.")]


RetryFailedOption = Annotated[
    bool, typer.Option("--retry-failed", help="Try again what failed in an earlier run.")
]
DryRunOption = Annotated[bool, typer.Option("-n", "--dry-run", help="Show the plan and stop.")]
AllowMissingOption = Annotated[
    bool, typer.Option("--allow-missing", help="Run what can, though something is missing.")
]


RedoChangedOption = Annotated[
    bool,
    typer.Option("--redo-changed", help="Make anew what other plug-in code or packages made."),
]


AddressOption = Annotated[
    str, typer.Option(metavar="ADDR", help="Ray cluster to join; else one is started here.")
]
GpusOption = Annotated[
    int | None, typer.Option(metavar="N", min=0, help="GPUs to use. [default: all]")
]
PerGpuOption = Annotated[
    int, typer.Option("--per-gpu", metavar="N", min=1, help="Stages that share a GPU.")
]
TensorboardOption = Annotated[
    bool, typer.Option("--tensorboard", help="Write event files of losses beside the tables.")
]
WandbOption = Annotated[
    bool, typer.Option("--wandb", help="Send losses to Weights & Biases, as it is configured.")
]


class Runner(StrEnum):
    """Where stages run."""

    local = "local"
    ray = "ray"


def run(
    file: arguments.File,
    profile: arguments.Profile = None,
    runner: Annotated[
        Runner, typer.Option(metavar="|".join(Runner), help="Local processes, or a Ray cluster.")
    ] = Runner.local,
    address: AddressOption = "",
    gpus: GpusOption = None,
    per_gpu: PerGpuOption = 1,
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Stages at once. [default: one per GPU or core]"),
    ] = None,
    results: arguments.Results = Path("results"),
    sets: arguments.Set = None,
    max_cells: arguments.MaxCells = None,
    only: arguments.Only = "",
    fail_fast: FailFastOption = False,
    retry_failed: RetryFailedOption = False,
    redo_changed: RedoChangedOption = False,
    allow_missing: AllowMissingOption = False,
    tensorboard: TensorboardOption = False,
    wandb: WandbOption = False,
    dry_run: DryRunOption = False,
    plugin: arguments.Plugin = None,
    json: arguments.Json = False,
) -> None:
    """Run an experiment; finished stages are never redone, and the same command resumes.

    It ends, failed stages or not, with all that `table --report` writes.
    """
    from distillbench.plan.build import selected
    from distillbench.report.render import write_plan
    from distillbench.run.options import RunOptions
    from distillbench.run.redo import Surveyed
    from distillbench.run.trackers import require_trackers

    options = RunOptions(
        runner=runner.value, address=address, gpus=gpus, workers=workers, per_gpu=per_gpu,
        fail_fast=fail_fast, retry_failed=retry_failed, redo_changed=redo_changed,
        trackers=("tensorboard",) * tensorboard + ("wandb",) * wandb,
    )  # fmt: skip
    experiment, whole = open_experiment(
        file, profile=profile, sets=sets, plugins=plugin, max_cells=max_cells
    )
    seen = Surveyed.of(part := selected(whole, only), store_of(results))
    lacking = _lacking(part, seen, options)
    if dry_run:
        show_plan(part, whole, seen.store, lacking, as_json=json)
        return
    require_writable(results)
    require_trackers(options.trackers)
    if not allow_missing:
        refuse(lacking)
        _refuse_unfit(part, seen, options)
    outdir = results / whole.name
    write_plan(whole, outdir)
    outcome, store = execute_part(part, seen, options, lacking, outdir / "log.txt", as_json=json)
    finish(experiment, whole, store, outdir, outcome, as_json=json, planned=True)
    raise typer.Exit(outcome.exit_code)


def _lacking(plan: Plan, seen: Surveyed, options: RunOptions) -> Sequence[Requirement]:
    """What the stages that a run would make need and this machine has not."""
    from distillbench.plan.requirements import Setup, missing
    from distillbench.run.redo import to_redo

    if options.redo_changed:
        seen = seen.without(to_redo(plan, seen))
    setup = Setup(options.runner, options.gpus, bool(options.address))
    return missing(plan, seen, setup)


def _refuse_unfit(plan: Plan, seen: Surveyed, options: RunOptions) -> None:
    """Stop before trainings that a GPU here cannot hold; a cluster's are not looked at."""
    from distillbench.plan.devices import choose_gpus
    from distillbench.run.memory import device_here, refuse_unfit

    if not options.address and choose_gpus(options.gpus):
        todo = [key for key in plan.stages if key not in seen.done]
        refuse_unfit(plan, todo, device_here(options.gpus))


def execute_part(
    plan: Plan,
    seen: Surveyed,
    options: RunOptions,
    lacking: Sequence[Requirement],
    log: Path,
    *,
    as_json: bool,
) -> tuple[Outcome, Any]:
    """Run what lacks nothing; also the store, which knows why the rest was not run."""
    from distillbench.plan.changed import find_changes
    from distillbench.plan.requirements import without
    from distillbench.run.driver import execute
    from distillbench.run.progress import open_progress

    able, blocked = without(plan, lacking, lambda stage: stage.key in seen.done)
    # With --json the standard output is the document alone.
    progress = open_progress(log, stream=sys.stderr if as_json else sys.stdout)
    for note in plan.notes:
        progress.say(f"note: {note}")
    for need in lacking:
        progress.say(f"missing: {need.line}")
    store, done = seen.store, [key for key in seen.done if key in able.stages]
    lines = changed_lines(find_changes(able, done, store), redone=options.redo_changed)
    for line in [*lines, *older_lines(able, store)]:
        progress.say(line)
    outcome = execute(able, store, options, progress=progress)
    outcome.failed |= blocked
    return outcome, StoreWithReasons(store, blocked)


def finish(
    experiment: Experiment, plan: Plan, store: Any, outdir: Path, outcome: Outcome, *,
    as_json: bool, planned: bool = False,
) -> None:  # fmt: skip
    """Write and show results of the whole plan, failed or not; an interrupted run only says so.

    Args:
        planned: the plan is written there.
    """
    from distillbench.report.render import build_report, write_reports

    record: dict[str, Any] = {
        "exit_code": outcome.exit_code,
        "cached": outcome.cached,
        "ran": outcome.ran,
        "failed": outcome.failed,
        "blocked": outcome.blocked,
    }
    if outcome.interrupted:
        if as_json:
            print_json(record)
        print("interrupted; the same command resumes", file=sys.stderr)
        return
    report = build_report(experiment, plan, store)
    paths = write_reports(report, outdir, planned=planned)
    if as_json:
        print_json({**record, **report_json(report, paths)})
    else:
        print_tables(report)
        print(f"results are in {outdir}; open {outdir / 'report.html'}")
    if not outcome.exit_code:  # what failed says more than a table that is refused
        report.check()
