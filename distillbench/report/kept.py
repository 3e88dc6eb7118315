"""Stored samples as files to look at: for `distillbench samples`, and rows with `sample.keep`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillbench.errors import BadInput
from distillbench.files.io import write_jsonl
from distillbench.plan.stage import Cell
from distillbench.report.encode import FPS
from distillbench.report.record import Report
from distillbench.report.samples import read_lines, read_samples

if TYPE_CHECKING:
    import numpy as np

__all__ = ["keep_samples", "write_samples"]

LIST = "samples.jsonl"
_AT_ONCE = 2**26  # bytes


def write_samples(
    folder: Path, out: Path, *, first: int | None = None, videos: str = ".gif"
) -> list[str]:
    """Write the samples of a stage into the folder `out`; returns the names of the files.

    `00012.png` is sample 12, of prompt 12 modulo the prompts. Last comes samples.jsonl, a line a
    file with its prompt.

    Args:
        folder: of the sample stage.
        out: is made where it is missing.
        first: so many of them; None is all.
        videos: ending of those, .gif or .mp4.

    Raises:
        BadInput: they are points, or nothing here writes MP4.
    """
    lines = read_lines(folder)[:first]
    sample = read_samples(folder, [0])[0]
    if sample.ndim < 3:
        raise BadInput(f"{folder.name}: its samples are points, not pictures")
    if sample.ndim == 4 and videos == ".mp4" and find_spec("av") is None:
        raise BadInput("MP4 is written by PyAV, which is not installed", hint="pip install av")
    out.mkdir(parents=True, exist_ok=True)
    size = max(1, _AT_ONCE // sample.nbytes)
    names = []
    for start in range(0, len(lines), size):
        places = range(start, min(start + size, len(lines)))
        for place, made in zip(places, read_samples(folder, places), strict=True):
            names.append(_save(made, out / f"{place:05d}", videos))
    write_jsonl(out / LIST, ({"file": n, **line} for n, line in zip(names, lines, strict=True)))
    return names


def keep_samples(report: Report, out: Path) -> list[Path]:
    """The samples of all rows that ask for it with `sample.keep`, each in a folder of its own.

    A folder that has its list is complete, and left as it is: its name holds the samples' key.
    Returns the lists.
    """
    store, lists = report.results.store, []
    for cell, kind in _asked(report):
        if store.is_done("sample", cell.sample):
            folder = out / _name(cell)
            if not (folder / LIST).is_file():
                videos = ".mp4" if kind == "mp4" else ".gif"
                write_samples(store.path("sample", cell.sample), folder, videos=videos)
            lists.append(folder / LIST)
    return lists


def _asked(report: Report) -> Iterator[tuple[Cell, str]]:
    for cell in report.results.plan.cells:
        if kind := cell.settings.get("sample.keep"):
            yield cell, str(kind)


def _name(cell: Cell) -> str:
    """`TDM-nfe4-seed0-1f2e3d4c`."""
    row = re.sub(r"[^A-Za-z0-9.=-]+", "-", cell.name)[:60].strip("-.")
    return f"{row or 'row'}-nfe{cell.nfe}-seed{cell.seed}-{cell.sample[:8]}"


def _save(sample: np.ndarray, stem: Path, videos: str) -> str:
    """A picture as PNG, frames as a video; the name of the file."""
    from PIL import Image

    if sample.ndim == 3:
        path = stem.with_suffix(".png")
        Image.fromarray(sample).save(path)
        return path.name
    path = stem.with_suffix(videos)
    if videos == ".mp4":
        _save_mp4(sample, path)
    else:
        frames = [Image.fromarray(frame) for frame in sample]
        frames[0].save(
            path, save_all=True, append_images=frames[1:], duration=1000 // FPS, loop=0
        )  # fmt: skip
    return path.name


def _save_mp4(frames: np.ndarray, path: Path) -> None:
    """H.264 in 4:2:0, which takes even sides: an odd one is repeated at its end."""
    import numpy as np

    av: Any = import_module("av")
    odd = [(0, side % 2) for side in frames.shape[1:3]]
    even = np.pad(frames, [(0, 0), *odd, (0, 0)], mode="edge")
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=FPS, options={"crf": "12"})
        stream.height, stream.width, stream.pix_fmt = *even.shape[1:3], "yuv420p"
        for frame in even:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())
