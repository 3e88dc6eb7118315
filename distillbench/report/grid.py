"""Grids of samples from the same noise: a line per row, over prompts, noises or a row field."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from distillbench.analysis.aggregate import Results
from distillbench.analysis.columns import backbone_labels
from distillbench.errors import ArtifactError
from distillbench.experiment.outputs import FigureConfig
from distillbench.experiment.schema import Experiment
from distillbench.report.encode import is_clip
from distillbench.report.exact import exact_points
from distillbench.report.samples import read_samples, read_trajectory
from distillbench.report.strips import Strip, comparable, strips_of
from distillbench.report.style import COLOURS, new_figure, save
from distillbench.report.tiles import Tile, laid_out

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

__all__ = ["draw_grid"]

TILE, GAP, LEFT, TOP, DPI = 128, 6, 190, 64, 100
"""Pixels of a tile, between tiles, for row labels and for prompts; dots per inch."""
FRAMES = 3
"""That are shown of a clip, side by side."""
_POINTS = 300


def draw_grid(
    config: FigureConfig, experiment: Experiment, results: Results, folder: Path
) -> list[Path]:
    """Draw samples of the rows, see `FigureConfig.across`; returns the .png path.

    Over prompts these are the first of every category. All lines show the same prompts from the
    same noise. Points are drawn as clouds over exact draws of the same condition, where the
    backbone's world can make them (this loads torch); clips as their first, middle and last frame.
    """
    labels = backbone_labels(experiment)
    rows = [row for row in results.select(config.where, [config.axis]) if row.first.sample]
    strips = comparable(strips_of(results, rows, labels, across=config.axis))
    shown = _first(strips)
    points, clips = (shown is not None and shown.ndim == n for n in (1, 4))
    grid = laid_out(
        config.across, strips, rows, most=config.samples, prompt=config.prompt, clouds=points
    )
    wide = TILE * (FRAMES if clips else 1)
    width = LEFT + max(len(grid.heads) * (wide + GAP), 4 * (TILE + GAP))
    height = TOP + max(len(grid.lines), 1) * (TILE + GAP)
    figure = new_figure(width / DPI, height / DPI, dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    corner = "\n".join(textwrap.wrap(grid.corner, 30)[:4])
    axes.text(LEFT - 8, TOP - 6, corner, ha="right", va="bottom", fontsize=7)
    for column, head in enumerate(grid.heads):
        title = "\n".join(textwrap.wrap(head, 22 * wide // TILE)[:4])
        x = LEFT + column * (wide + GAP) + wide / 2
        axes.text(x, TOP - 6, title, ha="center", va="bottom", fontsize=6)
    for number, (label, tiles) in enumerate(grid.lines):
        y = TOP + number * (TILE + GAP)
        text = "\n".join(textwrap.wrap(label, 26))
        axes.text(LEFT - 8, y + TILE / 2, text, ha="right", va="center", fontsize=8)
        _draw(axes, tiles, y, wide, results)
    return save(figure, folder / config.name, (".png",), tight=False)


def _first(strips: Sequence[Strip]) -> np.ndarray | None:
    """A sample of the first row that has any, for what kind they are of."""
    shown = next((strip for strip in strips if not strip.missing and strip.lines), None)
    found = _read(Tile(shown, 0)) if shown else ""
    return None if isinstance(found, str) else found


def _draw(axes: Axes, tiles: Sequence[Tile | str], y: float, wide: int, results: Results) -> None:
    """A line of samples; one reason for a whole line is written once."""
    found = [tile if isinstance(tile, str) else _read(tile) for tile in tiles]
    whole = all(isinstance(item, str) and item == found[0] for item in found)
    wrap, most = (70, 3) if whole else (18, 6)
    for column, (tile, item) in enumerate(list(zip(tiles, found))[: 1 if whole else None]):
        x = LEFT + column * (wide + GAP)
        if isinstance(item, str):
            text = "\n".join(textwrap.wrap(item, wrap)[:most])
            axes.text(x, y + TILE / 2, text, ha="left", va="center", fontsize=7, color="0.4")
        elif item.ndim == 1 and not isinstance(tile, str):
            _cloud(axes, tile, x, y, results)
        else:
            frames = item[[0, len(item) // 2, -1]] if is_clip(item) else item[None]
            for at, frame in enumerate(frames):
                box = (x + at * TILE, x + (at + 1) * TILE, y + TILE, y)
                axes.imshow(_tile(frame), extent=box, interpolation="none")
            axes.set_aspect("auto")


def _read(tile: Tile) -> np.ndarray | str:
    """The sample, or why it cannot be read."""
    try:
        return _sample(tile, tile.place)
    except ArtifactError as error:
        return str(error)


def _sample(tile: Tile, place: int) -> np.ndarray:
    """What the tile shows of the sample at a place. Raises ArtifactError."""
    if tile.evaluation is None:
        return read_samples(tile.strip.folder, [place])[0]
    return read_trajectory(tile.strip.folder, place, tile.evaluation)


def _tile(image: np.ndarray) -> np.ndarray:
    """An (H, W, 3) image resized to a tile: pixels kept crisp when it grows, smooth when not."""
    import numpy as np
    from PIL import Image

    grows = max(image.shape[:2]) <= TILE
    method = Image.Resampling.NEAREST if grows else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(image).resize((TILE, TILE), method))


# ---- points --------------------------------------------------------------------------------


def _cloud(axes: Axes, tile: Tile, x: float, y: float, results: Results) -> None:
    """Samples of one prompt over exact draws of it, in the tile at (x, y)."""
    import numpy as np

    strip, prompt = tile.strip, str(tile.strip.lines[tile.place]["prompt"])
    places = [i for i, line in enumerate(strip.lines) if line["prompt"] == prompt][:_POINTS]
    if tile.evaluation is None:
        points = np.stack(read_samples(strip.folder, places))[:, :2]
    else:
        points = np.stack([*_kept(tile, places)])[:, :2]
    backbone = results.plan.stages[strip.folder.name].plugin("backbone")
    params = json.dumps(backbone.params, sort_keys=True)
    exact = exact_points(backbone.name, params, prompt, _POINTS)
    cloud = points if exact is None else exact
    centre = (cloud.max(0) + cloud.min(0)) / 2
    reach = 0.6 * float((cloud.max(0) - cloud.min(0)).max()) or 1.0
    for data, colour, size in ((exact, "0.75", 4.0), (points, COLOURS[0], 2.0)):
        if data is not None:
            place = np.clip((data - centre) / reach, -1, 1) * (TILE / 2)
            axes.scatter(x + TILE / 2 + place[:, 0], y + TILE / 2 - place[:, 1],
                         s=size, c=colour, linewidths=0)  # fmt: skip
    edges = ([x, x + TILE, x + TILE, x, x], [y, y, y + TILE, y + TILE, y])
    axes.plot(*edges, color="0.85", linewidth=0.6)


def _kept(tile: Tile, places: Sequence[int]) -> Iterator[np.ndarray]:
    """Clean predictions of those of the samples that have any."""
    for place in places:
        try:
            yield _sample(tile, place)
        except ArtifactError:
            return
