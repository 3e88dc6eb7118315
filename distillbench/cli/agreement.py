"""`distillbench agreement`: how far results agree with the papers whose numbers they stand by."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from distillbench.cli import arguments
from distillbench.cli.common import columns, examples, print_json

__all__ = ["EPILOG", "agreement"]

EPILOG = examples(
    "distillbench agreement",
    "distillbench agreement results/table1 results/table5 -o agreement",
    "distillbench agreement results/reference --json",
)
_REFERENCE = Path("results/reference")


def agreement(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RESULTS_DIR...",
            help=f"Folders with tables, or of experiments with them. [default: {_REFERENCE}]",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="DIR", help="Also write CSV, Markdown and JSON."),
    ] = None,
    json: arguments.Json = False,
) -> None:
    """Count the published comparisons that tables agree with, and compare their rankings."""
    from distillbench.files.io import require_folder, storage_guard
    from distillbench.report.agreement import HEADS, NOTE, look, texts, write_agreement

    if out is not None:
        require_folder(out)
    found = look(folders or [_REFERENCE])
    written = []
    if out is not None:
        with storage_guard(out):
            written = write_agreement(found, out)
    if json:
        print_json(found.plain() | {"files": [str(path) for path in written]})
        return
    lines = (*found.tables, *found.metrics, found.all)
    print(found.summary)
    if found.tables:
        print()
        print(columns(HEADS, map(texts, lines)))
        print("\n" + "\n".join((NOTE, *found.notes)))
    for path in written:
        print(path)
