"""Arguments and options that several subcommands take: `file: arguments.File`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["File", "Json", "MaxCells", "Only", "Plugin", "Profile", "Results", "Run", "Set"]


def _runs(incomplete: str) -> list[str]:
    """Keys of stored trainings and samples that a shell may complete, in the usual folder."""
    paths = (path for kind in ("train", "sample") for path in Path("results/store", kind).glob("*"))
    return [
        path.name for path in paths if "." not in path.name and path.name.startswith(incomplete)
    ]


Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="Key of a stage, its beginning, or EXPERIMENT:ROW:seedN.",
        autocompletion=_runs,
    ),
]
File = Annotated[Path, typer.Argument(metavar="FILE", help="Experiment file (YAML).")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON to standard output.")]
Profile = Annotated[
    str | None,
    typer.Option(metavar="P", help="Overlay of the file to use. [default: tiny, if there]"),
]
Results = Annotated[Path, typer.Option(metavar="DIR", help="Where results are kept.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="a.b=value", help="Override an entry; may be repeated."),
]
MaxCells = Annotated[
    int | None,
    typer.Option("--max-cells", metavar="N", min=1, help="Cells allowed. [default: limits.cells]"),
]
Only = Annotated[
    str,
    typer.Option(metavar="EXPR", help="Rows to take: field=value[,value] or a label; * and ? fit."),
]
Plugin = Annotated[
    list[str] | None,
    typer.Option(metavar="MODULE", help="Module or .py file with plug-ins; may be repeated."),
]
