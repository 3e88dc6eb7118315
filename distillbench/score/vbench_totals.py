"""VBench 1.0 (arXiv 2311.17982): its 16 dimensions, and how they make quality, semantics and total.

total = (4 quality + semantic) / 5; each part is a weighted mean of (raw - low) / (high - low), not
clipped. Constants of Vchitect/VBench (scripts/constant.py), which its wheel lacks. A dimension that
is missing is an error here; the official script fills in a raw 0, which can go negative.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from distillbench.errors import BadInput

__all__ = ["DIMENSIONS", "FLICKER_VIDEOS", "QUALITY", "VIDEOS", "WITHOUT_DETECTRON", "totals"]

VIDEOS = 5  # of every prompt
FLICKER_VIDEOS = 25  # of the prompts of temporal_flickering, filtered for still ones


class Dimension(NamedTuple):
    """Range of its raw score in 0..1, and its weight in its part."""

    low: float
    high: float
    weight: float
    part: str


DIMENSIONS = {
    "subject_consistency": Dimension(0.1462, 1.0, 1.0, "quality"),
    "background_consistency": Dimension(0.2615, 1.0, 1.0, "quality"),
    "temporal_flickering": Dimension(0.6293, 1.0, 1.0, "quality"),
    "motion_smoothness": Dimension(0.706, 0.9975, 1.0, "quality"),
    "dynamic_degree": Dimension(0.0, 1.0, 0.5, "quality"),
    "aesthetic_quality": Dimension(0.0, 1.0, 1.0, "quality"),
    "imaging_quality": Dimension(0.0, 1.0, 1.0, "quality"),
    "object_class": Dimension(0.0, 1.0, 1.0, "semantic"),
    "multiple_objects": Dimension(0.0, 1.0, 1.0, "semantic"),
    "human_action": Dimension(0.0, 1.0, 1.0, "semantic"),
    "color": Dimension(0.0, 1.0, 1.0, "semantic"),
    "spatial_relationship": Dimension(0.0, 1.0, 1.0, "semantic"),
    "scene": Dimension(0.0, 0.8222, 1.0, "semantic"),
    "appearance_style": Dimension(0.0009, 0.2855, 1.0, "semantic"),
    "temporal_style": Dimension(0.0, 0.364, 1.0, "semantic"),
    "overall_consistency": Dimension(0.0, 0.364, 1.0, "semantic"),
}
QUALITY = tuple(name for name, d in DIMENSIONS.items() if d.part == "quality")
_DETECTRON = {"object_class", "multiple_objects", "color", "spatial_relationship"}
WITHOUT_DETECTRON = tuple(name for name in DIMENSIONS if name not in _DETECTRON)


def part(raw: Mapping[str, float], name: str) -> float:
    """`quality` or `semantic`, in per cent. Raises BadInput naming what is missing or odd."""
    own = {n: d for n, d in DIMENSIONS.items() if d.part == name}
    if missing := [n for n in own if n not in raw]:
        raise BadInput(f"VBench {name}: no score of {', '.join(missing)}")
    if odd := [n for n in own if not 0.0 <= raw[n] <= 1.0]:
        raise BadInput(f"VBench: {odd[0]} is {raw[odd[0]]}, not a raw score in 0..1")
    gained = sum(d.weight * (raw[n] - d.low) / (d.high - d.low) for n, d in own.items())
    return 100 * gained / sum(d.weight for d in own.values())


def totals(raw: Mapping[str, float]) -> dict[str, float]:
    """quality, semantic and total, in per cent, of all 16 raw scores. Raises BadInput."""
    parts = {name: part(raw, name) for name in ("quality", "semantic")}
    return {**parts, "total": (4 * parts["quality"] + parts["semantic"]) / 5}
