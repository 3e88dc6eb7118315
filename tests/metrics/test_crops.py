"""A picture is cut to a network's square once, whichever scorers see it, and no value changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from distillbench.api.metric import Samples
from distillbench.api.registry import build_metric
from distillbench.score import kept
from distillbench.score.evaluate import evaluate
from distillbench.score.features import clip_extractor
from distillbench.score.kept import Kept, cropped
from distillbench.score.preprocess import crop_square


@pytest.fixture
def cuts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes that pictures are cut to from now on."""
    made: list[int] = []
    plain: Callable[[torch.Tensor, int], torch.Tensor] = kept.cut_square

    def counted(images: torch.Tensor, size: int) -> torch.Tensor:
        made.append(size)
        return plain(images, size)

    monkeypatch.setattr(kept, "cut_square", counted)
    monkeypatch.setattr(kept, "_crops", Kept(kept.CROPS))
    clip_extractor.cache_clear()
    return made


def test_scorers_share_the_squares_of_a_set(
    cuts: list[int], scorers: Path, hub: Path, pictures: Samples
) -> None:
    known = dataclasses.replace(pictures, key="a set of its own")
    for name, weights in (("clip", scorers / "clip"), ("pick_score", hub / "pick"),
                          ("image_reward", hub / "reward")):  # fmt: skip
        with_key, without = (
            evaluate(build_metric(name, {"weights": str(weights)}), samples)
            for samples in (known, pictures)
        )
        assert with_key.per_sample == without.per_sample
    assert len(cuts) == len(set(cuts))


@pytest.mark.parametrize("size", [1, 32, 96, 200])
def test_a_square_is_cut_as_it_is(size: int, pictures: Samples) -> None:
    squares = cropped(dataclasses.replace(pictures, key=f"squares {size}"), size)
    assert squares.shape == (6, size, size, 3)
    assert torch.equal(crop_square(squares, size), crop_square(pictures.data, size))


def test_what_is_too_much_to_keep_stays_as_it_was(
    cuts: list[int], pictures: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "CROPS", 6 * 3 * 32**2 - 1)
    known = dataclasses.replace(pictures, key="k")
    assert cropped(known, 32) is known.data
    assert cropped(pictures, 8) is pictures.data
    assert cuts == []


def test_the_latest_are_kept_and_the_last_always() -> None:
    found = Kept(limit=100)
    for key, size in (("a", 40), ("b", 40), ("a", 40), ("c", 40)):
        found.get(key, lambda size=size: torch.zeros(size, dtype=torch.uint8))  # type: ignore[misc]
    assert list(found.values) == ["a", "c"]
    found.get("large", lambda: torch.zeros(200, dtype=torch.uint8))
    assert list(found.values) == ["large"]
    found.get("", lambda: torch.zeros(1))
    assert list(found.values) == ["large"]
