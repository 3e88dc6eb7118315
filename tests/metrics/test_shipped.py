"""The shipped tiny scorers say something: right captions, clean pictures and like sets win."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from distillbench.api.metric import Samples
from distillbench.api.registry import build_metric
from distillbench.score.evaluate import evaluate
from distillbench.world import weights
from distillbench.world.data import renders_of
from distillbench.world.prompts import prompt_set

N = 256


def needs(*names: str) -> pytest.MarkDecorator:
    missing = sorted(set(names) - set(weights.available()))
    return pytest.mark.skipif(bool(missing), reason=f"not shipped: {', '.join(missing)}")


def renders(seed: int) -> Samples:
    chosen = prompt_set("world-eval")
    prompts, styles = chosen.prompts[:N], chosen.categories[:N]
    return Samples(torch.from_numpy(renders_of(prompts, seed=seed)), prompts, styles, seed)


def blurred(samples: Samples) -> Samples:
    """Every 4 x 4 block of pixels replaced by its mean."""
    pixels = samples.data.permute(0, 3, 1, 2).float()
    coarse = torch.nn.functional.avg_pool2d(pixels, 4).repeat_interleave(4, 2)
    data = coarse.repeat_interleave(4, 3).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    return dataclasses.replace(samples, data=data)


def wins(metric: str, better: Samples, worse: Samples) -> float:
    one, two = (evaluate(build_metric(metric, {}), s).per_sample[""] for s in (better, worse))
    return sum(a > b for a, b in zip(one, two, strict=True)) / len(one)


@needs("tiny-clip")
def test_clip_prefers_right_captions() -> None:
    right = renders(1)
    wrong = dataclasses.replace(right, prompts=[*right.prompts[1:], right.prompts[0]])
    assert wins("clip", right, wrong) > 0.9


@pytest.mark.parametrize(
    "metric",
    [
        pytest.param("hps", marks=needs("tiny-hps")),
        pytest.param("aes", marks=needs("tiny-clip", "tiny-aes")),
    ],
)
def test_preference_and_aesthetics_prefer_sharp_pictures(metric: str) -> None:
    assert wins(metric, renders(2), blurred(renders(2))) > 0.8


@needs("tiny-hps")
def test_hps_has_a_column_for_every_style() -> None:
    scores = evaluate(build_metric("hps", {}), renders(3))
    assert set(scores.aggregate) == {"", "animation", "concept-art", "painting", "photo"}


@needs("tiny-inception")
def test_fid_is_small_for_fresh_renders_and_large_for_blurred_ones() -> None:
    metric = build_metric("fid", {})
    fresh = evaluate(metric, renders(4), renders(5))
    harmed = evaluate(metric, blurred(renders(4)), renders(5))
    gap = harmed.aggregate[""] - fresh.aggregate[""]
    assert gap > 5 * (fresh.stderr[""] + harmed.stderr[""])


@needs("tiny-clip", "tiny-hps", "tiny-aes", "tiny-inception")
@pytest.mark.parametrize("metric", ["hps", "clip", "aes", "fid"])
def test_columns_say_tiny(metric: str) -> None:
    built = build_metric(metric, {})
    assert built.label().endswith("(tiny)")
    assert "tiny:" in built.revision()
