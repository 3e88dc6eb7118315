"""Videos frame by frame: uint8 (n, frames, H, W, 3) and what pictures' scorers make of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from distillbench.api.metric import Samples
from distillbench.score.progress import tick

__all__ = ["each_video", "frames_of", "per_video", "step_difference", "successive"]


def frames_of(samples: Samples) -> Samples:
    """Every frame as a picture of its own, with its video's prompt and category, in order.

    Pictures come back as they are.
    """
    if samples.data.ndim == 4:
        return samples
    frames = samples.data.shape[1]
    return dataclasses.replace(
        samples,
        data=samples.data.flatten(0, 1),
        prompts=[p for p in samples.prompts for _ in range(frames)],
        categories=[c for c in samples.categories for _ in range(frames)],
        key=f"{samples.key}/frames" if samples.key else "",
    )


def per_video(values: Tensor, samples: Samples) -> Tensor:
    """(n,) means over the frames of each video of one value a frame."""
    return values.reshape(len(samples), -1).mean(dim=1)


def each_video(samples: Samples, value: Callable[[Tensor], float]) -> list[float]:
    """One value a video (frames, H, W, 3)."""

    def values() -> Iterator[float]:
        for number, video in enumerate(samples.data):
            yield value(video)
            tick(number + 1, len(samples))

    return list(values())


def step_difference(video: Tensor) -> float:
    """Mean absolute difference of successive frames, 0 to 255, a mean over frames and pixels.

    0 for a video of one frame.
    """
    if len(video) < 2:
        return 0.0
    steps = (video[1:].float() - video[:-1].float()).abs().flatten(1).mean(dim=1)
    return float(steps.double().mean())


def successive(features: Tensor) -> float:
    """Mean over later frames of the mean cosine to the one before and to the first, none below 0.

    VBench's consistency (arXiv 2311.17982) of unit features (frames, d); 1 for one frame.
    """
    if len(features) < 2:
        return 1.0
    before = (features[1:] * features[:-1]).sum(dim=1).clamp_min(0)
    first = (features[1:] * features[:1]).sum(dim=1).clamp_min(0)
    return float(torch.stack([before, first]).double().mean())
