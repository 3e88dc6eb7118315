"""`distillbench validate`: check experiment files without running anything."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from distillbench.cli import arguments
from distillbench.cli.common import examples, open_experiment, print_json, use_plugins
from distillbench.errors import BadInput
from distillbench.files.plaintext import visible

__all__ = ["EPILOG", "validate"]

EPILOG = examples(
    "distillbench validate experiments/*.yaml",
    "distillbench validate mine.yaml --profile paper --plugin my_method.py",
)


def validate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Experiment files.")],
    profile: arguments.Profile = None,
    sets: arguments.Set = None,
    max_cells: arguments.MaxCells = None,
    plugin: arguments.Plugin = None,
    json: arguments.Json = False,
) -> None:
    """Check files in every profile they have: schema, plug-ins, grid, tables, claims."""
    use_plugins(plugin)
    sets = [*(sets or ()), *([f"limits.cells={max_cells}"] if max_cells else [])]
    checked = [result for file in files for result in _check(file, profile, sets)]
    if json:
        print_json(checked)
    else:
        for result in checked:
            _tell(result)
    if any(result["errors"] for result in checked):
        raise typer.Exit(BadInput.exit_code)


def _check(file: Path, profile: str | None, sets: list[str] | None) -> list[dict[str, Any]]:
    from distillbench.experiment.load import profiles_of

    try:
        names: list[str | None] = [profile] if profile else [*profiles_of(file)] or [None]
    except BadInput:
        names = [None]
    return [_check_one(file, name, sets) for name in names]


def _check_one(file: Path, profile: str | None, sets: list[str] | None) -> dict[str, Any]:
    result: dict[str, Any] = {"file": str(file), "profile": profile or "", "errors": []}
    try:
        _, plan = open_experiment(file, profile=profile, sets=sets)
    except BadInput as error:
        return {**result, "errors": error.line.splitlines()}
    rows = len({cell.row for cell in plan.cells})
    return {**result, "rows": rows, "stages": len(plan.stages), "notes": list(plan.notes)}


def _tell(result: dict[str, Any]) -> None:
    name = result["file"] + (f" (profile {result['profile']})" if result["profile"] else "")
    if result["errors"]:
        typer.echo(visible("\n".join(result["errors"])), err=True)
        typer.echo(f"{name}: {len(result['errors'])} error(s)", err=True)
        return
    print(f"{name}: ok, {result['rows']} rows, {result['stages']} stages")
    for note in result["notes"]:
        print(visible(f"  note: {note}"))
