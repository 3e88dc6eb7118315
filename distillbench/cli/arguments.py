"""Arguments and options that several subcommands take: `file: arguments.File`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["File", "Json", "MaxCells", "Only", "Plugin", "Profile", "Results", "Set"]

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
