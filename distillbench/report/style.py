"""How figures look, and how they are saved: without dates, so that files do not change by day."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "MARKERS", "new_figure", "save"]

# Okabe and Ito's palette, told apart by colour-blind readers; its yellow is too faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_METADATA: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".pdf": {"CreationDate": None, "Producer": None, "Creator": None},
}


def new_figure(width: float, height: float, *, dpi: int = 150) -> Figure:
    """An empty figure in inches, drawn without any display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi)
    FigureCanvasAgg(figure)
    return figure


def save(
    figure: Figure, stem: Path, suffixes: tuple[str, ...], *, tight: bool = True
) -> list[Path]:
    """Write the figure in each format; returns the paths."""
    from matplotlib.text import Text

    # Labels are text of the experiment's author: a dollar in one begins no formula.
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_name(stem.name + suffix) for suffix in suffixes]
    for path in paths:
        box = "tight" if tight else None
        figure.savefig(path, bbox_inches=box, metadata=_METADATA[path.suffix])
    return paths
