"""Scorers in bfloat16: how far their values drift, and that nothing is mixed with float32."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from distillbench.api.fields import split
from distillbench.api.metric import Samples, Scores
from distillbench.api.registry import METRICS, build_metric
from distillbench.errors import ConfigError
from distillbench.score.evaluate import evaluate, protocol
from distillbench.score.precision import PrecisionConfig, computing_in, current, forward

# Of the largest drift of a sample, in standard deviations over samples, and of a whole set's value,
# as a share of it. Measured figures stand in docs/metrics.md.
SAMPLE, SET = 0.1, 0.02
PARAMS: dict[str, dict[str, Any]] = {
    **{name: {} for name in ("hps", "clip", "aes", "cmmd", "lpips", "diversity", "vendi")},
    "pick_score": {"weights": "pick"},
    "image_reward": {"weights": "reward"},
    "hpsv3": {"weights": "judge"},
    "fd_dinov2": {"weights": "dino", "allow_small_n": True},
}
SIDE = 32


def pictures(seed: int) -> Samples:
    """Forty smooth pictures of twenty captions."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(40, 3, 5, 5, generator=rng)
    fine = torch.nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bicubic").clamp(0, 1)
    data = (fine * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    prompts = [f"a photo of number {i % 20}" for i in range(40)]
    return Samples(data, prompts, [""] * 40, 0, f"precision {seed}")


def scored(name: str, params: dict[str, Any], hub: Path, precision: str) -> Scores:
    at = {"weights": str(hub / params["weights"])} if "weights" in params else {}
    metric = build_metric(name, {**params, **at, "precision": precision})
    reference = pictures(1) if metric.info.needs_reference else None
    return evaluate(metric, pictures(0), reference)


def test_every_metric_with_the_setting_is_held_here() -> None:
    found = {
        name for name in METRICS.names() if issubclass(METRICS.get(name).Config, PrecisionConfig)
    }
    assert found == {*PARAMS, "frame_consistency"}


@pytest.mark.parametrize("name", PARAMS)
def test_values_drift_by_little_and_never_mix(name: str, hub: Path) -> None:
    """float32, bfloat16 and float32 again of one set in one process: what is kept stays apart."""
    before, low, after = (
        scored(name, PARAMS[name], hub, p) for p in ("float32", "bfloat16", "float32")
    )
    assert (before.aggregate, before.per_sample) == (after.aggregate, after.per_sample)
    assert 0 < drift(before, low) < (SAMPLE if "" in before.per_sample else SET)


def drift(before: Scores, low: Scores) -> float:
    if "" not in before.per_sample:
        return abs(low.aggregate[""] / before.aggregate[""] - 1)
    one, two = (torch.tensor(scores.per_sample[""]) for scores in (before, low))
    return float((one - two).abs().max() / one.std())


def test_the_key_and_the_protocol_carry_the_precision() -> None:
    plain, same, low = (build_metric("clip", p) for p in (
        {}, {"precision": "float32"}, {"precision": "bfloat16"}))  # fmt: skip
    assert split(plain.config) == split(same.config)
    assert "precision" not in split(plain.config).decisive
    assert split(low.config).decisive == {**split(plain.config).decisive, "precision": "bfloat16"}
    samples, scores = pictures(0), Scores({"": 1.0})
    assert "precision" not in protocol(plain, samples, scores)
    assert protocol(low, samples, scores)["precision"] == "bfloat16"


def test_a_package_computes_as_it_does(scorers: Path) -> None:
    with pytest.raises(ConfigError, match="precision: bfloat16 is of the native backend alone"):
        build_metric("hps", {"backend": "package", "precision": "bfloat16"})


def test_a_network_computes_in_what_is_asked_for() -> None:
    layer, x = torch.nn.Linear(4, 4), torch.ones(2, 4)
    with computing_in("bfloat16"), forward("cpu"):
        assert layer(x).dtype == torch.bfloat16
    with computing_in("float32"), forward("cpu"):
        assert layer(x).dtype == torch.float32
    assert current() == "float32"


def test_features_of_both_are_kept_apart(scorers: Path) -> None:
    samples = dataclasses.replace(pictures(2), key="kept apart")
    metric = build_metric("clip", {"weights": str(scorers / "clip")})
    metric.load()
    clip = metric._clip  # type: ignore[attr-defined]
    plain = clip.images(samples)
    with computing_in("bfloat16"):
        low, again = clip.images(samples), clip.images(samples)
        words = clip.texts(["a"])
    assert clip.images(samples) is plain
    assert again is low
    assert (plain - low).abs().max() > 0
    assert (clip.texts(["a"]) - words).abs().max() > 0
