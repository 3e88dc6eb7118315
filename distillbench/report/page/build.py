"""Everything the page's script draws, as JSON, and the script and styles themselves."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillbench.report.claim_writers import WORDS
from distillbench.report.page.losses import loss_curves
from distillbench.report.page.pictures import sample_sets
from distillbench.report.page.points import metric_choices, row_points
from distillbench.report.style import COLOURS

if TYPE_CHECKING:
    from distillbench.report.record import Report

__all__ = ["asset", "embedded", "page_data", "script", "script_hash"]

_SCRIPTS = (
    "dom.js", "tables.js", "scale.js", "plot.js", "legend.js", "curves.js", "tradeoff.js",
    "forest.js", "pictures.js", "samples.js", "compare.js", "main.js",
)  # fmt: skip


def page_data(report: Report, outdir: Path) -> dict[str, Any]:
    """What the script draws; pictures that are too large for the page go beside it."""
    experiment, results, infos = report.experiment, report.results, report.infos
    curves = [c for c in experiment.figures if c.kind == "curve" and c.name not in report.refused]
    return {
        "colours": COLOURS,
        "metrics": metric_choices(results, infos),
        "rows": row_points(experiment, results, infos),
        "curves": [{"name": c.name, "x": c.x, "y": c.y} for c in curves],
        "losses": loss_curves(results),
        "claims": [
            {"text": v.text, "verdict": v.verdict, "word": WORDS.get(v.verdict, v.verdict),
             "metric": v.label or v.metric, "difference": v.difference,
             "low": v.low, "high": v.high}
            for v in report.verdicts
        ],
        "samples": sample_sets(experiment, results, infos, outdir),
    }  # fmt: skip


def embedded(data: Any) -> str:
    """JSON that can stand in a script element: nothing in it can end that or begin a tag."""
    text = json.dumps(_finite(data), allow_nan=False, separators=(",", ":"))
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def _finite(value: Any) -> Any:
    """The same without numbers that JSON cannot hold."""
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@cache
def asset(name: str) -> str:
    """The text of one of the page's own files."""
    return (Path(__file__).parent / "assets" / name).read_text(encoding="utf-8")


@cache
def script() -> str:
    """The whole script, in one function of its own."""
    return "(() => {\n" + "\n".join(asset(name) for name in _SCRIPTS) + "\n})();\n"


@cache
def script_hash() -> str:
    """What the page's policy allows to run, and nothing else."""
    digest = hashlib.sha256(script().encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
