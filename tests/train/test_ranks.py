"""Several processes inside one run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from distillbench.errors import Interrupted
from distillbench.testing.method import train, train_spec
from distillbench.train.ranks import buckets

LCM = {"nets": "copy", "lr": 1e-3, "teacher_guidance": [1.0, 1.0]}


@pytest.mark.parametrize(
    ("numbers", "size", "expected"),
    [
        ([1, 2, 3], 100, [[1, 2, 3]]),
        ([1, 2, 3], 12, [[1, 2], [3]]),
        ([9, 1, 9, 1, 1], 12, [[9], [1], [9], [1, 1]]),
        ([5], 4, [[5]]),
        ([], 4, []),
    ],
)
def test_small_gradients_travel_together(
    numbers: list[int], size: int, expected: list[list[int]]
) -> None:
    found = buckets([torch.zeros(n) for n in numbers], size)
    assert [[t.numel() for t in bucket] for bucket in found] == expected


def test_gradients_of_two_dtypes_travel_apart() -> None:
    half = torch.zeros(3, dtype=torch.bfloat16)
    assert [len(b) for b in buckets([torch.zeros(1), half, half, torch.zeros(1)])] == [1, 2, 1]


def test_two_processes_equal_one_with_twice_the_accumulation(tmp_path: Path) -> None:
    one = train_spec("lcm", LCM, updates=4, batch_size=16, accumulate=2)
    two = train_spec("lcm", LCM, updates=4, batch_size=16, processes=2)
    train(one, tmp_path / "one")
    with pytest.raises(Interrupted):  # all ranks stop together
        train(two, tmp_path / "two", stop_after=3)
    train(one, tmp_path / "two")  # what two processes began, one can end
    a, b = (load_file(tmp_path / f / "out" / "student.safetensors") for f in ("one", "two"))
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=1e-6)
    costs = [json.loads((tmp_path / f / "out" / "cost.json").read_text()) for f in ("one", "two")]
    assert costs[0]["evaluations"] == costs[1]["evaluations"]


def test_what_is_stopped_as_it_goes_on_costs_what_it_did(tmp_path: Path) -> None:
    """No rank has evaluated anything in the second attempt, and the first is in its totals."""
    spec = train_spec("lcm", LCM, updates=4, batch_size=16, processes=2)
    found = []
    for stop_after in (3, 0):
        with pytest.raises(Interrupted):
            train(spec, tmp_path, stop_after=stop_after)
        (saved,) = (tmp_path / "checkpoints").rglob("state.json")
        found.append(json.loads(saved.read_text())["cost"])
    first, second = found
    assert first["evaluations"] == second["evaluations"]
    assert first["evaluations"]["student"] == 3 * 32
    for measure in ("seconds", "cpu_seconds"):
        assert 0 < first[measure] < second[measure] < first[measure] + 60
