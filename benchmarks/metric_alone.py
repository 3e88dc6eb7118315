"""Metrics that no package of PyPI computes, ours alone; a part of benchmarks/metrics.py.

VBench's frame by frame loops are in a package whose environment is its own and takes gigabytes, and
ICNet's authors publish no package.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import random_scorers
from side_by_side import Pair, beside, pictures, timed

from distillbench.api.metric import Samples
from distillbench.api.registry import build_metric

FRAMES = 16


def alone_rows(large: int, repeats: int) -> None:
    """image_complexity of `large` pictures of 512 pixels, metrics of `large` videos of 256."""
    with TemporaryDirectory() as folder:
        file = random_scorers.complexity(Path(folder))
        pair = _alone("image_complexity", "published sizes", weights=str(file))
        beside(pair, pictures(large), repeats)
    for pair in _of_videos():
        beside(pair, _videos(large), repeats)


def _of_videos() -> Iterator[Pair]:
    for name, network in (("temporal_flickering", "none"), ("frame_consistency", "tiny")):
        pair = _alone(name, network)
        yield replace(pair, name=f"{pair.name}, frames of 256 pixels", frames=FRAMES)


def _alone(name: str, network: str, **params: str) -> Pair:
    metric = build_metric(name, params)
    metric.load()

    def ours(samples: Samples) -> None:
        metric.score(samples)

    return Pair(f"`{name}`", network, timed(ours))


def _videos(count: int) -> Samples:
    """As many videos of noise, (count, frames, 256, 256, 3)."""
    shown = pictures(count * FRAMES, 256)
    data = shown.data.view(count, FRAMES, *shown.data.shape[1:])
    prompts, categories = shown.prompts[:count], shown.categories[:count]
    return replace(shown, data=data, prompts=prompts, categories=categories)
