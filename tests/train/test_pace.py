"""A few updates are timed and thrown away."""

from __future__ import annotations

from distillbench.specs.context import Runtime
from distillbench.specs.stages import TrainSpec
from distillbench.testing.specs import train_spec
from distillbench.train.pace import pace


def test_updates_are_timed_whatever_the_training_stands_on() -> None:
    raw = train_spec("lcm", {"nets": "copy"}, updates=1, batch_size=4)
    spec = TrainSpec.read({**raw, "teacher": "0" * 20}, of="a test")
    found = pace(spec, Runtime(prompts="gmm-train"), device="cpu", updates=4)
    assert found["updates"] == 4
    assert 0 < found["seconds"] < 60
    assert found["peak_memory_bytes"] > 0
