"""The sample grid: one line of same-noise samples per table row."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from distillbench.analysis.aggregate import Results
from distillbench.analysis.columns import backbone_labels
from distillbench.errors import ArtifactError
from distillbench.experiment.outputs import FigureConfig
from distillbench.experiment.schema import Experiment
from distillbench.report.exact import exact_points
from distillbench.report.samples import pick_balanced, read_samples
from distillbench.report.strips import Strip, comparable, strips_of
from distillbench.report.style import COLOURS, new_figure, save

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

__all__ = ["draw_grid"]

TILE, GAP, LEFT, TOP, DPI = 128, 6, 190, 64, 100
"""Pixels of a tile, between tiles, for row labels and for prompts; dots per inch."""
_POINTS = 300


def draw_grid(
    config: FigureConfig, experiment: Experiment, results: Results, folder: Path
) -> list[Path]:
    """Draw the first prompts of every category, a line per row; returns the .png path.

    All lines show the same prompts from the same noise. Points are drawn as clouds over exact
    draws of the same condition, where the backbone's world can make them (this loads torch).
    """
    labels = backbone_labels(experiment)
    rows = [row for row in results.select(config.where) if row.first.sample]
    strips = comparable(strips_of(results, rows, labels))
    shown = next((strip for strip in strips if not strip.missing), None)
    positions = pick_balanced(shown.lines, config.samples) if shown else []
    width = LEFT + max(len(positions), 4) * (TILE + GAP)
    height = TOP + max(len(strips), 1) * (TILE + GAP)
    figure = new_figure(width / DPI, height / DPI, dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    for column, position in enumerate(positions):
        assert shown is not None
        title = "\n".join(textwrap.wrap(str(shown.lines[position]["prompt"]), 22)[:4])
        x = LEFT + column * (TILE + GAP) + TILE / 2
        axes.text(x, TOP - 6, title, ha="center", va="bottom", fontsize=6)
    for number, strip in enumerate(strips):
        y = TOP + number * (TILE + GAP)
        text = "\n".join(textwrap.wrap(strip.label, 26))
        axes.text(LEFT - 8, y + TILE / 2, text, ha="right", va="center", fontsize=8)
        _draw(axes, strip, positions, y, results)
    return save(figure, folder / config.name, (".png",), tight=False)


def _draw(axes: Axes, strip: Strip, positions: Sequence[int], y: float, results: Results) -> None:
    missing, samples = strip.missing, []
    if not missing:
        try:
            samples = read_samples(strip.folder, positions)
        except ArtifactError as error:
            missing = str(error)
    if missing:
        text = "\n".join(textwrap.wrap(missing, 70)[:3])
        axes.text(LEFT, y + TILE / 2, text, ha="left", va="center", fontsize=7, color="0.4")
    for column, (position, sample) in enumerate(zip(positions, samples)):
        x = LEFT + column * (TILE + GAP)
        if sample.ndim == 1:
            _cloud(axes, strip, str(strip.lines[position]["prompt"]), x, y, results)
        else:
            frame = sample[len(sample) // 2] if sample.ndim == 4 else sample
            axes.imshow(_tile(frame), extent=(x, x + TILE, y + TILE, y), interpolation="none")
            axes.set_aspect("auto")


def _tile(image: np.ndarray) -> np.ndarray:
    """An (H, W, 3) image resized to a tile: pixels kept crisp when it grows, smooth when not."""
    import numpy as np
    from PIL import Image

    grows = max(image.shape[:2]) <= TILE
    method = Image.Resampling.NEAREST if grows else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(image).resize((TILE, TILE), method))


# ---- points --------------------------------------------------------------------------------


def _cloud(axes: Axes, strip: Strip, prompt: str, x: float, y: float, results: Results) -> None:
    """Samples of one prompt over exact draws of it, in the tile at (x, y)."""
    import numpy as np

    places = [i for i, line in enumerate(strip.lines) if line["prompt"] == prompt][:_POINTS]
    points = np.stack(read_samples(strip.folder, places))[:, :2]
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
