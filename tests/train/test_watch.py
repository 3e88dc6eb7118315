"""Numbers that are not finite: at once on a processor, within a few steps on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from distillbench.errors import NonFiniteLoss
from distillbench.train.watch import EVERY, Watch

TURNS = ("fake", "student")


def watch(device: str, others: Sequence[int] = ()) -> Watch:
    """A watch in a team whose other ranks found their first bad row at these places."""
    team: Any = SimpleNamespace(device=device, least=lambda number: min(number, *others, 10**6))
    return Watch.of("tdm", team)


def train(ours: Watch, steps: int, *, bad: tuple[int, str, str] | None = None) -> int:
    """Go through steps with one bad (step, turn, what); returns the steps that were finished."""
    for step in range(steps):
        for turn in TURNS:
            good = [(step, turn, what) != bad for what in ("loss", "gradient")]
            try:
                ours.see(step, turn, [torch.tensor(value) for value in good], f"step {step}")
            except NonFiniteLoss as error:
                raise AssertionError(step) from error
        ours.stepped(step + 1, f"step {step}")
    return steps


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_finite_numbers_pass(device: str) -> None:
    ours = watch(device)
    assert train(ours, 3 * EVERY) == 3 * EVERY
    ours.look("at the end")


@pytest.mark.parametrize("what", ["loss", "gradient"])
@pytest.mark.parametrize("turn", TURNS)
def test_a_processor_tells_before_the_update(turn: str, what: str) -> None:
    with pytest.raises(AssertionError) as caught:
        train(watch("cpu"), 20, bad=(7, turn, what))
    assert caught.value.args == (7,)
    assert f"tdm: {what} of turn '{turn}' is not finite at step 8" in str(caught.value.__cause__)


@pytest.mark.parametrize("step", [0, 5, 9, 10, 17])
def test_a_gpu_tells_within_a_few_steps_and_names_the_first(step: int) -> None:
    ours, bad = watch("cuda:0"), (step, "fake", "gradient")
    with pytest.raises(NonFiniteLoss, match=f"gradient of turn 'fake' .* step {step + 1};"):
        train(ours, 2 * EVERY, bad=bad)


def test_nothing_is_saved_before_a_look() -> None:
    ours = watch("cuda:0")
    train(ours, 4, bad=(2, "student", "loss"))
    with pytest.raises(NonFiniteLoss, match="step 3; last good checkpoint: none yet"):
        ours.look("none yet")


def test_the_first_bad_row_of_any_rank_counts() -> None:
    ours = watch("cuda:0", others=[3])
    train(ours, 4)
    with pytest.raises(NonFiniteLoss, match="turn 'student' is not finite at step 2"):
        ours.look("none yet")
