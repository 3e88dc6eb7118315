"""`distillbench samples`: the stored samples of a run as picture files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from distillbench.cli import arguments
from distillbench.cli.common import examples, find_run, print_json, store_of
from distillbench.errors import BadInput

__all__ = ["EPILOG", "samples"]

EPILOG = examples(
    "distillbench samples 7b0f3a1c -o pictures",
    "distillbench samples quickstart:TDM -o pictures --first 64",
)


def samples(
    run: arguments.Run,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="A new folder.")],
    first: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="So many of them. [default: all]")
    ] = None,
    results: arguments.Results = Path("results"),
    json: arguments.Json = False,
) -> None:
    """Write stored samples as PNG, videos as GIF, with their prompts in samples.jsonl."""
    from distillbench.files.io import storage_guard
    from distillbench.report.kept import write_samples

    kind, key = _samples_of(results, run)
    if out.exists():
        raise BadInput(f"{out}: is there already", hint="Name a new folder with -o")
    folder = Path(store_of(results).verify(kind, key))
    with storage_guard(out):
        names = write_samples(folder, out, first=first)
    if json:
        print_json({"samples": key, "files": [str(out / name) for name in names]})
    else:
        print(f"{len(names)} samples in {out}")


def _samples_of(results: Path, run: str) -> tuple[str, str]:
    """The sample stage that is meant; of a training the only one that it has."""
    from distillbench.store.runs import sampled_rows

    kind, key = find_run(results, run, "sample")
    if kind == "sample":
        return kind, key
    rows = sampled_rows(store_of(results).path(kind, key)) if kind == "train" else []
    if len(rows) == 1:
        return "sample", rows[0].key
    known = "; ".join(f"{row.key[:8]} ({row.label} nfe {row.nfe})" for row in rows)
    what = f"its samples: {known}" if known else "a sample stage has samples"
    raise BadInput(f"{key}: a {kind} stage; {what}")
