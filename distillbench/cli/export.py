"""`distillbench export`: a trained student in diffusers format."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from distillbench.cli.common import (
    JsonOption,
    PluginOption,
    ResultsOption,
    examples,
    print_json,
    use_plugins,
)
from distillbench.cli.sample import CheckpointArgument, checkpoint_folder
from distillbench.store.io import read_json

__all__ = ["EPILOG", "export"]

EPILOG = examples(
    "distillbench list runs",
    "distillbench export 58017a9e -o my-student",
)


def export(
    checkpoint: CheckpointArgument,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Folder to write.")],
    results: ResultsOption = Path("results"),
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """Write a student so that diffusers loads it, with the recipe it is sampled by."""
    use_plugins(plugin)
    folder = checkpoint_folder(checkpoint, results)
    from distillbench.train.to_diffusers import export_student

    paths = export_student(folder, out)
    ignored = read_json(out / "recipe.json")["diffusers_ignores"]
    if json:
        files = [str(path) for path in paths]
        print_json({"checkpoint": str(folder), "files": files, "diffusers_ignores": ignored})
        return
    if ignored:
        print(
            f"warning: diffusers does not follow {' and '.join(ignored)} of recipe.json, so its "
            "samples are not ours",
            file=sys.stderr,
        )
    for path in paths:
        print(path)
