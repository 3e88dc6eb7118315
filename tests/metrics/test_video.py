"""Scores of videos: frame means, flicker and consistency."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from distillbench.api.metric import Samples
from distillbench.api.registry import build_metric
from distillbench.score.evaluate import evaluate


def videos(n: int = 3, frames: int = 4, seed: int = 0) -> Samples:
    rng = torch.Generator().manual_seed(seed)
    data = torch.randint(0, 256, (n, frames, 32, 32, 3), generator=rng).to(torch.uint8)
    return Samples(data, [f"a video of thing {i}" for i in range(n)], [""] * n, seed)


def still(samples: Samples) -> Samples:
    return dataclasses.replace(samples, data=samples.data[:, :1].expand_as(samples.data))


@pytest.mark.parametrize("name", ["clip", "aes", "hps"])
def test_a_video_scores_the_mean_of_its_frames(scorers: Path, name: str) -> None:
    head, clip = str(scorers / "head.pth"), str(scorers / "clip")
    own = {"weights": clip}
    params = {"clip": own, "hps": own, "aes": {"weights": head, "clip": clip}}
    metric, whole = build_metric(name, params[name]), videos()
    found = evaluate(metric, whole).per_sample[""]
    for index, value in enumerate(found):
        prompts = [whole.prompts[index]] * 4
        frames = Samples(whole.data[index], prompts, [""] * 4, 0)
        assert value == pytest.approx(evaluate(metric, frames).aggregate[""], abs=1e-4)


def test_flicker_is_vbenchs_formula() -> None:
    whole = videos()
    pixels = whole.data.double()
    steps = (pixels[:, 1:] - pixels[:, :-1]).abs().mean(dim=(1, 2, 3, 4))
    expected = (100 * (255 - steps) / 255).tolist()
    found = evaluate(build_metric("temporal_flickering", {}), whole)
    assert found.per_sample[""] == pytest.approx(expected, abs=1e-4)
    assert evaluate(build_metric("temporal_flickering", {}), still(whole)).aggregate[""] == 100.0


def test_consistency_is_the_mean_of_both_cosines(scorers: Path) -> None:
    metric, whole = build_metric("frame_consistency", {"weights": str(scorers / "clip")}), videos()
    found = evaluate(metric, whole).per_sample[""]
    clip = metric._clip  # type: ignore[attr-defined]
    for video, value in zip(whole.data, found, strict=True):
        f = clip.encode(video)
        terms = [max(0.0, float(f[i] @ f[j])) for i in range(1, 4) for j in (i - 1, 0)]
        assert value == pytest.approx(100 * sum(terms) / len(terms), abs=1e-3)
    assert evaluate(metric, still(whole)).aggregate[""] == pytest.approx(100.0, abs=1e-3)


def test_one_frame_is_a_video_that_does_not_change(scorers: Path) -> None:
    one = videos(frames=1)
    assert evaluate(build_metric("temporal_flickering", {}), one).aggregate[""] == 100.0
    metric = build_metric("frame_consistency", {"weights": str(scorers / "clip")})
    assert evaluate(metric, one).aggregate[""] == 100.0
