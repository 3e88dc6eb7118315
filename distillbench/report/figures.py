"""Draw the figures an experiment asks for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from distillbench.report.curves import draw_curve
from distillbench.report.grid import draw_grid

if TYPE_CHECKING:
    from distillbench.report.record import Report

__all__ = ["draw_figures"]


def draw_figures(report: Report, folder: Path) -> list[Path]:
    """Draw every figure of the experiment into `folder`; returns the paths, in order.

    A curve that was refused is not drawn, and its older files are removed.
    """
    experiment, results, paths = report.experiment, report.results, []
    for config in experiment.figures:
        if config.name in report.refused:
            for suffix in (".png", ".pdf"):
                (folder / f"{config.name}{suffix}").unlink(missing_ok=True)
        elif config.kind == "curve":
            paths += draw_curve(config, experiment, results, report.infos, folder)
        else:
            paths += draw_grid(config, experiment, results, folder)
    return paths
