"""`distillbench export`: a trained student in diffusers format."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from distillbench.cli import arguments
from distillbench.cli.common import examples, print_json, use_plugins
from distillbench.cli.placing import (
    WordsOption,
    checkpoint_folder,
    placed_by,
    row_meant,
    words_set,
)
from distillbench.cli.recipes import RowOption, recipe_like, say_other_rows
from distillbench.cli.sample import CheckpointArgument
from distillbench.files.io import require_folder
from distillbench.specs.trained import ExportRecipe

__all__ = ["EPILOG", "export"]

EPILOG = examples(
    "distillbench list runs",
    "distillbench export 58017a9e -o my-student",
    "distillbench export 58017a9e --nfe 8 -o my-student",
    "distillbench export 58017a9e --row TCD -o my-student",
    "distillbench export 58017a9e --lora kohya -o for-comfyui",
    "distillbench export 58017a9e --as pipeline -o whole",
)


class Form(StrEnum):
    """How an adapter's tensors are named."""

    diffusers = "diffusers"
    kohya = "kohya"
    peft = "peft"


class Reach(StrEnum):
    """How much of a student's pipeline is written."""

    least = "least"
    network = "network"
    pipeline = "pipeline"


def export(
    checkpoint: CheckpointArgument,
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="DIR", help="New or empty folder to write.")
    ],
    nfe: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Evaluations of its recipe. [default: its own]"),
    ] = None,
    row: RowOption = "",
    lora: Annotated[
        Form, typer.Option(help="Names of an adapter's tensors: as these tools have them.")
    ] = Form.diffusers,
    extent: Annotated[
        Reach, typer.Option("--as", help="An adapter if it can be, or the whole of these.")
    ] = Reach.least,
    sets: WordsOption = None,
    results: arguments.Results = Path("results"),
    plugin: arguments.Plugin = None,
    json: arguments.Json = False,
) -> None:
    """Write a student so that diffusers loads it, with the recipe it is sampled by."""
    use_plugins(plugin)
    require_folder(out, empty=True)
    folder = checkpoint_folder(checkpoint, results)
    like = row_meant(checkpoint, folder, results, row, nfe)
    placed = placed_by(folder, results, like, words_set(sets or ()))
    from distillbench.api.samplers import from_recipe
    from distillbench.student.diffusers import export_student

    paths = export_student(
        folder, out, nfe=nfe, recipe=recipe_like(folder, like, nfe), placed=placed,
        lora=lora.value, extent=extent.value,
    )  # fmt: skip
    recipe = ExportRecipe.read(out)
    limits = recipe.limits
    if not like and not placed:
        say_other_rows(folder, from_recipe(recipe.sampler))
    if json:
        files = [str(path) for path in paths]
        report = {"files": files, "diffusers_ignores": list(limits), "limits": limits}
        print_json({"checkpoint": str(folder), **report})
        return
    if limits:
        print(
            f"warning: diffusers does not follow {' and '.join(limits)} of recipe.json, so its "
            f"samples are not ours: {'; '.join(limits.values())}",
            file=sys.stderr,
        )
    for path in paths:
        print(path)
