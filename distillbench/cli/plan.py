"""`distillbench plan`: what a run would do, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distillbench.cli import arguments
from distillbench.cli.changed import changed_lines, older_count, older_lines
from distillbench.cli.common import columns, examples, open_experiment, print_json, store_of
from distillbench.cli.needs import missing_lines
from distillbench.cli.reckoning import Reckoning, memory_lines
from distillbench.files.plaintext import visible

if TYPE_CHECKING:
    from distillbench.plan.requirements import Requirement
    from distillbench.plan.stage import Cell, Plan
    from distillbench.plan.status import StageStatus
    from distillbench.store.layout import Store

__all__ = ["EPILOG", "plan", "show_plan"]

EPILOG = examples(
    "distillbench plan experiments/table1.yaml",
    "distillbench plan experiments/table1.yaml --profile paper --only method=tdm",
    "distillbench plan experiments/smoke.yaml --set base.train.batch_size=128 --json",
)


def plan(
    file: arguments.File,
    profile: arguments.Profile = None,
    results: arguments.Results = Path("results"),
    sets: arguments.Set = None,
    max_cells: arguments.MaxCells = None,
    only: arguments.Only = "",
    memory: Annotated[
        bool, typer.Option("--memory", help="Reckon the memory of the stages; imports torch.")
    ] = False,
    calibration: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Tell hours by it, whatever device it is of."),
    ] = None,
    plugin: arguments.Plugin = None,
    json: arguments.Json = False,
) -> None:
    """Show the grid, its stages, and which of them are cached, new or stale."""
    from distillbench.plan.build import selected
    from distillbench.plan.requirements import missing
    from distillbench.run.calibrate import FILE

    _, whole = open_experiment(
        file, profile=profile, sets=sets, plugins=plugin, max_cells=max_cells
    )
    part = selected(whole, only)
    store = store_of(results)
    paces = calibration or results / FILE
    extra = Reckoning(memory, paces, asked=calibration is not None)
    show_plan(part, whole, store, missing(part, store), as_json=json, extra=extra)


def show_plan(
    made: Plan,
    whole: Plan,
    store: Store,
    lacking: Sequence[Requirement],
    *,
    as_json: bool,
    extra: Reckoning | None = None,
) -> None:
    """Print a plan against the store, what other code made, and what is missing to run it.

    Args:
        whole: what `made` is a selection of.
        extra: what is reckoned of the trainings that are not done.
    """
    from distillbench.plan.changed import find_changes
    from distillbench.plan.status import plan_status

    status = plan_status(made, store, whole=whole)
    done = [key for key, entry in status.items() if entry.state == "cached"]
    changes = find_changes(made, done, store)
    todo = [key for key, entry in status.items() if entry.state != "cached"]
    memory = extra.memory_of(made, todo) if extra else None
    hours = extra.hours(made, todo) if extra else ""
    if as_json:
        print_json({
            **_as_json(made, status), **changes.as_json(),
            "older_version": older_count(made, store),
            "missing": [need.as_json() for need in lacking],
            **({} if memory is None else {"memory": [one.as_json() for one in memory]}),
            **({"time": hours} if hours else {}),
        })  # fmt: skip
        return
    snapshots = any(not cell.final for cell in made.cells)
    head = ("row", "backbone", "nfe", *(["updates"] if snapshots else []), "seeds", "train",
            "sample", "score")  # fmt: skip
    print(columns(head, [_row(cells, status, snapshots=snapshots) for cells in _rows(made)]))
    counts = Counter(entry.state for entry in status.values())
    total = ", ".join(f"{n} {state}" for state, n in sorted(counts.items()))
    print(f"\n{made.name}: {len(made.stages)} stages ({total})")
    reasons = Counter((e.state, e.reason) for e in status.values() if e.reason)
    for (state, reason), count in reasons.items():
        print(f"  {state} x{count}: {reason}")
    for note in made.notes:
        print(visible(f"  note: {note}"))
    for line in [*changed_lines(changes), *older_lines(made, store)]:
        print(visible(f"  {line}"))
    for line in [*missing_lines(lacking), *memory_lines(memory), *([hours] if hours else [])]:
        print(visible(line))


def _rows(made: Plan) -> list[list[Cell]]:
    rows: dict[int, list[Cell]] = {}
    for cell in made.cells:
        rows.setdefault(cell.row, []).append(cell)
    return list(rows.values())


def _row(
    cells: Sequence[Cell], status: Mapping[str, StageStatus], *, snapshots: bool
) -> list[object]:  # fmt: skip
    first = cells[0]
    updates = [first.updates] if snapshots else []
    keys = {
        "train": [cell.train for cell in cells if cell.train],
        "sample": [cell.sample for cell in cells],
        "score": [key for cell in cells for key in cell.scores.values()],
    }
    states = [_states(status, names) for names in keys.values()]
    seeds = ",".join(str(cell.seed) for cell in cells)
    return [first.name, first.backbone, first.nfe, *updates, seeds, *states]


def _states(status: Mapping[str, StageStatus], keys: Sequence[str]) -> str:
    counts = Counter(status[key].state for key in dict.fromkeys(keys))
    return ", ".join(f"{n} {state}" for state, n in sorted(counts.items())) or "-"


def _as_json(made: Plan, status: Mapping[str, StageStatus]) -> dict[str, Any]:
    from distillbench.report.render import plan_json

    result = plan_json(made)
    for stage in result["stages"]:
        entry = status[stage["key"]]
        stage |= {"state": entry.state, "reason": entry.reason}
    return {**result, "notes": list(made.notes)}
