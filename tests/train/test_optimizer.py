"""Optimizers of roles: moments of 8 bits train as those of 32, and resume to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from distillbench.api.method import Optim
from distillbench.errors import Interrupted, NonFiniteLoss
from distillbench.methods.tdm import TDM
from distillbench.testing.method import train, train_spec
from distillbench.train import optimizer

pytest.importorskip("torchao")
SETTINGS = {"nets": "copy", "lr": 1e-3, "fake_lr": 1e-3, "teacher_guidance": 1.0}


def spec(updates: int = 9, **train_settings: Any) -> dict[str, Any]:
    return train_spec(
        "tdm", SETTINGS, updates=updates, batch_size=8, optimizer="adamw8bit", **train_settings
    )


def student(folder: Path) -> bytes:
    return (folder / "out" / "student.safetensors").read_bytes()


def test_a_stopped_training_ends_with_the_same_bytes(tmp_path: Path) -> None:
    train(spec(), tmp_path / "straight")
    for stop in (2, 3):
        with pytest.raises(Interrupted):
            train(spec(), tmp_path / "stopped", stop_after=stop)
    train(spec(), tmp_path / "stopped")
    assert student(tmp_path / "straight") == student(tmp_path / "stopped")


def test_it_follows_the_plain_one_and_is_not_the_same(tmp_path: Path) -> None:
    """Moments of 8 bits miss by less than a percent of a block's largest."""
    plain = {**spec(40), "train": {**spec(40)["train"], "optimizer": "adamw"}}
    train(plain, tmp_path / "plain")
    train(spec(40), tmp_path / "eight")
    a, b = (load_file(tmp_path / n / "out" / "student.safetensors") for n in ("plain", "eight"))
    start = train_spec("tdm", SETTINGS, updates=1, batch_size=8)
    train(start, tmp_path / "start")
    first = load_file(tmp_path / "start" / "out" / "student.safetensors")
    moved = sum(float((a[n] - first[n]).square().sum()) for n in a)
    apart = sum(float((a[n] - b[n]).square().sum()) for n in a)
    assert 0 < apart < 0.05 * moved


def test_checkpoints_hold_a_quarter_of_the_moments(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(spec(), tmp_path, stop_after=2)
    (folder,) = (tmp_path / "checkpoints").glob("step-*")
    saved = load_file(folder / "tensors.safetensors")
    codes = {name: t for name, t in saved.items() if name.endswith("/codes")}
    assert codes
    for name, value in codes.items():
        assert value.dtype == torch.uint8
        assert saved[name.replace("/codes", "/scale")].numel() == value.numel() // 256


def test_gradients_that_are_not_finite_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = TDM.loss

    def loss(self: Any, turn: str, batch: Any, step: int) -> Any:
        made = plain(self, turn, batch, step)
        return type(made)(made.total * float("nan")) if step == 3 else made

    monkeypatch.setattr(TDM, "loss", loss)
    with pytest.raises(NonFiniteLoss, match="not finite at step 4"):
        train(spec(), tmp_path, save_every=1)
    for name, value in load_file(
        tmp_path / "checkpoints" / "step-00000003" / "tensors.safetensors"
    ).items():
        assert bool(value.float().isfinite().all()), name


@pytest.mark.parametrize("kind", ["adamw", "adamw8bit"])
def test_states_survive_as_plain_tensors(kind: Any) -> None:
    def made() -> Any:
        weights = [torch.nn.Parameter(torch.ones(64, 64)), torch.nn.Parameter(torch.ones(3))]
        return weights, optimizer.make(kind, weights, Optim(lr=1e-2, weight_decay=0.1), "cpu")

    def update(weights: Any, one: Any, seed: int) -> None:
        rng = torch.Generator().manual_seed(seed)
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=rng)
        optimizer.step(one, 1e-2)

    (ours, first), (theirs, second) = made(), made()
    update(ours, first, 0)
    with torch.no_grad():
        for a, b in zip(ours, theirs, strict=True):
            b.copy_(a)
    kept = optimizer.flatten(first)
    assert all(type(value) is torch.Tensor for value in kept.values())
    optimizer.restore(second, {name: value.clone() for name, value in kept.items()})
    for seed in (1, 2):
        update(ours, first, seed)
        update(theirs, second, seed)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    a, b = optimizer.flatten(first), optimizer.flatten(second)
    assert all(torch.equal(a[name], b[name]) for name in a)
