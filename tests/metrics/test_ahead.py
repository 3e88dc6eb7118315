"""Batches are made ahead of the network that takes them, and no value changes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from distillbench.api.metric import Samples
from distillbench.api.registry import build_metric
from distillbench.score import progress
from distillbench.score.evaluate import evaluate
from distillbench.score.progress import ahead, listening, made_ahead


def test_the_next_is_made_while_the_last_is_used() -> None:
    """The second one begins although nobody has asked for it, the third does not."""
    begun = [threading.Event() for _ in range(4)]

    def make(number: int) -> int:
        begun[number].set()
        return number

    made = made_ahead(make, range(4))
    assert next(made) == 0
    assert begun[1].wait(10)
    assert not begun[2].is_set()
    assert list(made) == [1, 2, 3]


@pytest.mark.parametrize("total", [0, 1, 7, 8])
def test_slices_come_in_order_and_are_told_when_done(total: int) -> None:
    told: list[tuple[int, int]] = []
    with listening(lambda done, of: told.append((done, of))):
        found = []
        for part, made in ahead(lambda p: list(range(total))[p], total, 3):
            assert told == [(n, total) for n in range(3, part.start + 1, 3)]
            found += made
            assert made == list(range(part.start, part.stop))
    assert found == list(range(total))
    assert told[-1:] == ([(total, total)] if total else [])


def test_what_goes_wrong_is_raised_in_its_turn() -> None:
    def make(number: int) -> int:
        if number == 2:
            raise ValueError("the third")
        return number

    made = made_ahead(make, range(5))
    assert [next(made), next(made)] == [0, 1]
    with pytest.raises(ValueError, match="the third"):
        next(made)


def test_who_stops_early_leaves_no_thread() -> None:
    before = threading.active_count()
    made = made_ahead(lambda n: n, range(100))
    next(made)
    made.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def at_once(make: Callable[[Any], Any], each: Iterable[Any]) -> Iterator[Any]:
    return map(make, each)


@pytest.mark.parametrize(
    ("name", "weights"),
    [("clip", ""), ("hps", ""), ("pick_score", "pick"), ("image_reward", "reward"),
     ("fid", ""), ("fd_dinov2", "dino")],
)  # fmt: skip
def test_values_are_those_of_one_thread(
    name: str, weights: str, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = torch.Generator().manual_seed(3)
    data = torch.randint(0, 256, (70, 32, 32, 3), generator=rng).to(torch.uint8)
    samples = Samples(data, [f"a photo of number {i % 9}" for i in range(70)], [""] * 70, 0)
    params = {"weights": str(hub / weights)} if weights else {}
    if name in ("fid", "fd_dinov2"):
        params["allow_small_n"] = True  # type: ignore[assignment]
    metric = build_metric(name, params)
    reference = Samples(data.flip(1), samples.prompts, [""] * 70, 0)
    given = (samples, reference if metric.info.needs_reference else None)
    threaded = evaluate(metric, *given)
    monkeypatch.setattr(progress, "made_ahead", at_once)
    assert evaluate(metric, *given) == threaded


def test_threads_are_those_of_the_stage() -> None:
    """A thread of its own starts with as many as torch was told."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(before + 1)
        (found,) = made_ahead(lambda _: torch.get_num_threads(), [0])
    finally:
        torch.set_num_threads(before)
    assert found == before + 1
