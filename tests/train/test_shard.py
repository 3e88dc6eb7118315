"""Networks shared by the processes of a training: the same students, in files of the same kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from distillbench.api import registry
from distillbench.errors import Interrupted, PluginError
from distillbench.testing.method import train, train_spec

ROUNDING = 2e-6
COPY = {"nets": "copy", "lr": 1e-3}
SCORES = {**COPY, "fake_lr": 1e-3, "ema": 0.9}
WANDERING = """
from distillbench.methods.lcm import LCM


class Wandering(LCM):
    name = "wandering"

    def loss(self, turn, batch, step):
        if int(batch.randint(0, 2, "branch")[0]):
            self.backbone.predict(None, batch.latents, batch.randint(0, 9, "t"), batch.cond)
        return super().loss(turn, batch, step)
"""
METHODS: list[tuple[str, dict[str, Any]]] = [
    ("lcm", COPY),
    ("tscd", COPY),
    ("dmd2", {**SCORES, "adversarial_weight": 1e-2}),
    ("tdm", {**SCORES, "teacher_guidance": 1.0}),
]


def spec(method: str, params: Mapping[str, Any], *, sharded: bool, **settings: Any) -> Any:
    """A training in two sharded processes, or of as many micro-batches in one."""
    how = {"processes": 2, "shard": "fsdp2"} if sharded else {"accumulate": 2}
    told = {"updates": 4, "batch_size": 4, **settings}
    return train_spec(method, params, **{**told, **how})


def student(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "out" / "student.safetensors")


def checkpoint(folder: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(folder / "checkpoints" / f"step-{step:08d}" / "tensors.safetensors")


def assert_close(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> None:
    assert list(a) == list(b)
    for name, value in a.items():
        assert (value.shape, value.dtype) == (b[name].shape, b[name].dtype)
        torch.testing.assert_close(value, b[name], rtol=0, atol=ROUNDING, msg=name)


@pytest.mark.parametrize(("method", "params"), METHODS, ids=[name for name, _ in METHODS])
def test_the_student_is_that_of_whole_networks(
    method: str, params: dict[str, Any], tmp_path: Path
) -> None:
    """Weights, averages and moments; gradients are clipped by the norm over all parts."""
    for sharded in (False, True):
        made = spec(method, params, sharded=sharded)
        train(made, tmp_path / str(sharded), save_every=3)
    assert_close(*(student(tmp_path / str(sharded)) for sharded in (False, True)))
    assert_close(*(checkpoint(tmp_path / str(sharded), 3) for sharded in (False, True)))


def test_checkpoints_are_those_of_whole_networks(tmp_path: Path) -> None:
    """What was begun in parts ends in parts to the bit, and whole; and the other way round."""
    method, params = METHODS[-1]
    parts, whole = (spec(method, params, sharded=sharded) for sharded in (True, False))
    for folder in ("parts", "mixed"):
        with pytest.raises(Interrupted):
            train(parts, tmp_path / folder, stop_after=1)
    with pytest.raises(Interrupted):
        train(whole, tmp_path / "begun whole", stop_after=1)
    train(parts, tmp_path / "parts")
    train(whole, tmp_path / "mixed")
    train(parts, tmp_path / "begun whole")
    train(parts, tmp_path / "straight")
    straight = student(tmp_path / "straight")
    assert all(torch.equal(v, straight[n]) for n, v in student(tmp_path / "parts").items())
    for folder in ("mixed", "begun whole"):
        assert_close(straight, student(tmp_path / folder))


@pytest.mark.parametrize("nets", ["copy", "lora"])
def test_features_and_adapters_of_a_pipeline(nets: str, tmp_path: Path) -> None:
    """A UNet is left in its middle, with gradient through it; moments are those of gradients.

    FSDP2 takes no weights in channels_last, so that convolutions round otherwise.
    """
    params = {"nets": nets, "steps": 1, "adversarial_weight": 1.0, "fake_updates": 1}
    how = {"backbone": "tiny-sd", "updates": 2, "batch_size": 1}
    for sharded in (False, True):
        with pytest.raises(Interrupted):
            train(spec("dmd2", params, sharded=sharded, **how), tmp_path / str(sharded),
                  stop_after=1)  # fmt: skip
    whole, parts = (checkpoint(tmp_path / str(sharded), 1) for sharded in (False, True))
    assert list(whole) == list(parts)
    for role in ("student", "fake", "head"):
        mean = {n for n in whole if n.startswith(f"{role}/adam") and n.endswith("/exp_avg")}
        assert mean
        largest = max(float(whole[name].abs().max()) for name in mean)
        for name in mean:
            torch.testing.assert_close(parts[name], whole[name], rtol=0, atol=1e-4 * largest)


@pytest.fixture
def wandering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A method whose branches hang on a rank's own draws; other ranks know it too."""
    path = tmp_path / "wandering.py"
    path.write_text(WANDERING, encoding="utf-8")
    monkeypatch.setenv(registry.PLUGINS_VARIABLE, "")
    registry.add_plugin(str(path))
    yield "wandering"
    monkeypatch.undo()
    for each in (registry.METHODS, registry.METRICS, registry.BACKBONES):
        each.reset()


def test_ranks_that_call_other_networks_are_told(wandering: str, tmp_path: Path) -> None:
    """Nobody waits for ever."""
    with pytest.raises(PluginError, match="ranks of a sharded training call networks in different"):
        train(spec(wandering, COPY, sharded=True), tmp_path)
