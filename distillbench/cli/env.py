"""`distillbench env`: isolated environments of the cross-check scorers."""

from __future__ import annotations

from typing import Annotated

import typer

from distillbench.cli import arguments
from distillbench.cli.common import columns, examples, print_json
from distillbench.files.plaintext import visible

__all__ = ["app"]

app = typer.Typer(
    help="Isolated environments of packages that cannot share ours.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command(
    "create",
    epilog=examples(
        "distillbench env create image-reward",
        "distillbench env create hpsv2 --dry-run",
        "distillbench env list",
    ),
)
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="hpsv2, image-reward or vbench.")],
    dry_run: Annotated[
        bool, typer.Option("-n", "--dry-run", help="Show the commands and stop.")
    ] = False,
    json: arguments.Json = False,
) -> None:
    """Make an environment (uv where it is installed, else venv and pip) and check its imports."""
    from distillbench.score import envs

    if dry_run:
        steps = envs.commands(name)
        print_json(steps) if json else print("\n".join(" ".join(step) for step in steps))
        return
    folder = envs.create(name, say=lambda line: typer.echo(visible(line), err=True))
    notes = envs.ENVIRONMENTS[name].notes
    if json:
        print_json({"name": name, "folder": str(folder), "notes": notes})
    else:
        print(f"{folder} is ready" + (f" ({notes})" if notes else ""))


@app.command("list", epilog=examples("distillbench env list", "distillbench env list --json"))
def list_environments(json: arguments.Json = False) -> None:
    """List the environments and whether they are there."""
    from distillbench.score import envs

    rows = [
        {
            "name": name,
            "created": envs.is_created(name),
            "folder": str(envs.home() / name),
            "notes": wanted.notes,
        }
        for name, wanted in envs.ENVIRONMENTS.items()
    ]
    if json:
        print_json(rows)
        return
    shown = [[row["name"], "yes" if row["created"] else "no", row["notes"]] for row in rows]
    print(columns(("name", "created", "notes"), shown))
