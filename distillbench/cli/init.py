"""`distillbench init`: a first experiment file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from distillbench.cli import arguments
from distillbench.cli.common import examples, open_experiment, print_json, use_plugins
from distillbench.errors import BadInput

__all__ = ["EPILOG", "init"]

EPILOG = examples(
    "distillbench init tdm --backbone tiny-sd",
    "distillbench init lcm tdm --backbone gmm -o mine.yaml",
    "distillbench list methods",
)


def init(
    methods: Annotated[list[str], typer.Argument(metavar="METHOD...", help="Registered methods.")],
    backbone: Annotated[str, typer.Option(metavar="B", help="A registered backbone.")],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="FILE", help="A new file. [default: METHOD.yaml]"),
    ] = None,
    plugin: arguments.Plugin = None,
    json: arguments.Json = False,
) -> None:
    """Write a commented experiment of these methods on a backbone.

    It plans as it is; where a method needs what has no default, the lines to mend are named.
    """
    from distillbench.experiment.starter import Starter, starter
    from distillbench.files.io import storage_guard

    use_plugins(plugin)
    file = out or Path(f"{methods[0]}.yaml")
    if file.exists():
        raise BadInput(f"{file}: is there already", hint="Name a new file with -o")
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", file.stem).strip("-._") or "mine"
    text = starter(Starter(backbone, tuple(dict.fromkeys(methods)), name[:64]))
    with storage_guard(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    try:
        _, plan = open_experiment(file)
    except BadInput as error:
        raise BadInput(f"{error.line}\n{file} is written; mend these lines in it") from error
    if json:
        print_json({"file": str(file), "stages": len(plan.stages)})
    else:
        print(f"written to {file}: {len(plan.stages)} stages; distillbench run {file}")
