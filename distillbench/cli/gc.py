"""`distillbench gc`: what no experiment refers to, and its removal."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distillbench.cli import arguments
from distillbench.cli.common import (
    age_text,
    columns,
    examples,
    open_experiment,
    print_json,
    require_writable,
    store_of,
    use_plugins,
)
from distillbench.errors import ArtifactError, BadInput

if TYPE_CHECKING:
    from distillbench.store.layout import Store
    from distillbench.store.unused import Unused

__all__ = ["EPILOG", "gc"]

EPILOG = examples(
    "distillbench gc",
    "distillbench gc experiments/*.yaml --remove",
)


def gc(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE...", help="Experiments whose stages are kept, too."),
    ] = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove them; else they are only listed.")
    ] = False,
    results: arguments.Results = Path("results"),
    plugin: arguments.Plugin = None,
    json: arguments.Json = False,
) -> None:
    """List stages that no experiment refers to, and remove them when asked.

    Kept is what stands in a plan.json of the results folder (each experiment's last run or table
    there), what the named files plan in any of their profiles, all that these were made from, and
    what runs.
    """
    from distillbench.files.places import size_text
    from distillbench.store.unused import remove_stage, unused

    use_plugins(plugin)
    store = store_of(results)
    found = unused(store, _referred(results, files or ()))
    told = [(stage, _row(store, stage)) for stage in found]  # while there is something to read
    if remove and found:
        require_writable(results)
        _refuse_while_running(store)
        told = [(stage, row) for stage, row in told if remove_stage(store, stage)]
    rows = [row for _, row in told]
    size = sum(row["bytes"] for row in rows)
    if json:
        print_json({"removed": remove, "bytes": size, "stages": rows})
        return
    if rows:
        shown = [(*list(row.values())[:3], size_text(row["bytes"]), row["age"]) for row in rows]
        print(columns(("kind", "key", "label", "size", "age"), shown) + "\n")
    what = f"{len(rows)} stages, {size_text(size)}" if rows else "nothing"
    print(f"{what} removed" if remove else f"{what} that no experiment refers to"
          + ("; --remove removes them" if rows else ""))  # fmt: skip


def _referred(results: Path, files: list[Path] | tuple[()]) -> set[str]:
    """Keys of all plans. Raises BadInput where nothing tells what is in use."""
    from distillbench.experiment.load import profiles_of
    from distillbench.store.unused import keys_in_plans

    plans = keys_in_plans(results)
    if not plans and not files:
        hint = "Name the experiment files whose stages are to be kept"
        raise BadInput(f"{results}: no experiment's plan.json tells what is in use", hint=hint)
    found = set().union(*plans.values())
    for file in files:
        profiles: list[str | None] = [*profiles_of(file)]
        for profile in profiles or [None]:
            found |= open_experiment(file, profile=profile)[1].stages.keys()
    return found


def _refuse_while_running(store: Store) -> None:
    from distillbench.store.unused import live_holders

    held = live_holders(store)
    if held:
        stage, holder = held[0]
        hint = "Wait for the end of the run, or stop it"
        raise BadInput(f"{stage} runs here ({holder.name}): nothing was removed", hint=hint)


def _row(store: Store, stage: Unused) -> dict[str, Any]:
    from distillbench.specs.stored import StoredStage

    label = ""
    with suppress(ArtifactError):
        label = StoredStage.read(store.path(stage.kind, stage.key) / "spec.json").label
    return {"kind": stage.kind, "key": stage.key, "label": label, "bytes": stage.size,
            "age": age_text(time.time() - stage.newest)}  # fmt: skip
