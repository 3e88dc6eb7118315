"""`distillbench samples`: the stored samples of a run as picture files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distillbench.cli import arguments
from distillbench.cli.common import examples, find_run, print_json, store_of
from distillbench.errors import BadInput

if TYPE_CHECKING:
    import numpy as np

__all__ = ["EPILOG", "samples"]

EPILOG = examples(
    "distillbench samples 7b0f3a1c -o pictures",
    "distillbench samples quickstart:TDM -o pictures --first 64",
)
_AT_ONCE = 64


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
    from distillbench.files.io import storage_guard, write_jsonl
    from distillbench.report.samples import read_lines, read_samples

    kind, key = _samples_of(results, run)
    if out.exists():
        raise BadInput(f"{out}: is there already", hint="Name a new folder with -o")
    folder = Path(store_of(results).verify(kind, key))
    lines = read_lines(folder)[:first]
    if read_samples(folder, [0])[0].ndim < 3:
        raise BadInput(f"{key}: its samples are points, not pictures")
    names: list[str] = []
    with storage_guard(out):
        out.mkdir(parents=True)
        for start in range(0, len(lines), _AT_ONCE):
            places = range(start, min(start + _AT_ONCE, len(lines)))
            made = zip(places, read_samples(folder, places), strict=True)
            names += [_save(sample, out / f"{place:05d}") for place, sample in made]
        told = ({"file": name, **line} for name, line in zip(names, lines, strict=True))
        write_jsonl(out / "samples.jsonl", told)
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


def _save(sample: np.ndarray, stem: Path) -> str:
    """A picture as PNG, frames as GIF; the name of the file."""
    from PIL import Image

    frames = [Image.fromarray(frame) for frame in (sample if sample.ndim == 4 else sample[None])]
    path = stem.with_suffix(".gif" if len(frames) > 1 else ".png")
    clip: dict[str, Any] = {
        "save_all": True,
        "append_images": frames[1:],
        "duration": 125,
        "loop": 0,
    }
    frames[0].save(path, **(clip if len(frames) > 1 else {}))
    return path.name
