"""`distillbench score`: pictures or videos of any other tool, as the rows of a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distillbench.cli import arguments
from distillbench.cli.common import examples, require_writable, store_of, use_plugins
from distillbench.errors import BadInput

if TYPE_CHECKING:
    from distillbench.experiment.schema import Experiment

__all__ = ["EPILOG", "score"]

EPILOG = examples(
    "distillbench score pictures --prompts prompts.txt",
    "distillbench score theirs ours --prompts hpsv2 -m hps=hpsv2.1 -m clip=openai-ViT-L-14",
)
DEFAULT = ("hps", "aes", "clip")


def score(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER...", help="Pictures, or videos; a row each.")
    ],
    prompts: Annotated[
        str, typer.Option(metavar="FILE", help="What they were made for: a file, or a named set.")
    ],
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            "-m",
            "--metric",
            metavar="NAME[=WEIGHTS]",
            help=f"May be repeated. [default: {', '.join(DEFAULT)}, tiny scorers]",
        ),
    ] = None,
    n: Annotated[
        int | None, typer.Option("-n", metavar="N", min=1, help="Samples. [default: the prompts]")
    ] = None,
    results: arguments.Results = Path("results"),
    plugin: arguments.Plugin = None,
    json: arguments.Json = False,
) -> None:
    """Score samples that another tool made; files follow the prompts' order, or name them.

    Which file is of which prompt: docs/checkpoints.md. A row `samples: FOLDER` of an experiment
    does the same beside other rows, and with FID to their teacher.
    """
    from distillbench.analysis.check import checked_plan
    from distillbench.cli.needs import refuse
    from distillbench.cli.run import execute_part, finish
    from distillbench.data.prompts import load_prompts
    from distillbench.plan.requirements import missing
    from distillbench.run.options import RunOptions
    from distillbench.run.redo import Surveyed

    use_plugins(plugin)
    experiment = _experiment(folders, prompts, n or len(load_prompts(prompts)), metrics or DEFAULT)
    plan = checked_plan(experiment)
    seen = Surveyed.of(plan, store_of(results))
    refuse(missing(plan, seen))
    require_writable(results)
    outdir = results / plan.name
    outcome, store = execute_part(plan, seen, RunOptions(), [], outdir / "log.txt", as_json=json)
    finish(experiment, plan, store, outdir, outcome, as_json=json)
    raise typer.Exit(outcome.exit_code)


def _experiment(
    folders: Sequence[Path], prompts: str, n: int, metrics: Sequence[str]
) -> Experiment:
    """What an experiment file would say."""
    from distillbench.experiment.schema import Experiment
    from distillbench.files.explain import validated
    from distillbench.files.marks import MapNode, Problems

    labels = [folder.resolve().name for folder in folders]
    if len(set(labels)) < len(labels):
        labels = [str(folder) for folder in folders]
    if len(set(labels)) < len(labels):
        raise BadInput("a folder is named twice")
    rows = [{"label": label, "samples": str(folder)}
            for label, folder in zip(labels, folders, strict=True)]  # fmt: skip
    asked = [_metric(text) for text in metrics]
    columns = ["label", *(metric["use"] for metric in asked)]
    tree = MapNode({
        "name": "scores",
        "base": {"nfe": 1, "sample": {"prompts": prompts, "n": n}},
        "rows": rows,
        "metrics": asked,
        "tables": [{"name": "scores", "columns": columns, "per_category": True}],
    })  # fmt: skip
    problems = Problems()
    made = validated(Experiment, tree, problems, owner="score")
    problems.raise_if_any()
    assert made is not None
    return made


def _metric(text: str) -> dict[str, Any]:
    name, _, weights = text.partition("=")
    return {"use": name, **({"params": {"weights": weights}} if weights else {})}
