"""Several processes inside one run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from distillbench.errors import Interrupted
from distillbench.testing.method import train, train_spec

LCM = {"nets": "copy", "lr": 1e-3, "teacher_guidance": [1.0, 1.0]}


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
