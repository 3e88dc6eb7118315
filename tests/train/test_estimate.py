"""Memory reckoned on outlines: every method's loss runs there, and sizes move as they must."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from distillbench.api import registry
from distillbench.api.method import Method
from distillbench.outlines import Alive, Memory
from distillbench.train.estimate import training_memory

MIB = 2**20


def method(name: str, **params: Any) -> Method:
    return registry.build_method(name, params, registry.build_backbone("tiny-sd", {}))


def memory(
    name: str, batch: int = 8, precision: str = "float32", ranks: int = 1, **params: Any
) -> Memory:
    made = method(name, **params)
    return training_memory(made, precision=precision, batch_size=batch, ranks=ranks)


def test_what_lives_at_once_is_added_up() -> None:
    """A chain keeps one result and the one before it; what backward needs stays."""
    layer = nn.Linear(256, 256, bias=False, device="meta")
    x = torch.empty(1024, 256, device="meta")
    with Alive([layer.weight, x]) as tally, torch.no_grad():
        y = x
        for _ in range(5):
            y = layer(y)
    assert tally.peak == 2 * MIB
    with Alive([layer.weight, x]) as tally:
        y = layer(layer(layer(x)))
    assert tally.peak == tally.now == 3 * MIB
    del y
    assert tally.now == 0


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("name", ["lcm", "tcd", "tscd", "dmd2", "tdm", "sft"])
def test_losses_run_without_a_number(name: str, batch: int) -> None:
    found = memory(name, batch)
    assert found.unknown == ""
    assert found.passes > MIB
    assert found.turn in method(name).nets()
    assert found.total > found.weights + found.passes


def test_sizes_move_as_they_must() -> None:
    one, two = memory("lcm", 8), memory("lcm", 16)
    assert (one.weights, one.trained, one.optimizer) == (two.weights, two.trained, two.optimizer)
    assert 1.7 * one.passes < two.passes < 2.1 * one.passes
    adapter, copy = memory("dmd2"), memory("dmd2", nets="copy")
    assert copy.trained > adapter.trained
    assert copy.optimizer == 2 * copy.trained
    averaged = memory("lcm", nets="copy")
    assert averaged.optimizer == averaged.trained  # two moments of each, and each with its average


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_average_is_counted_once(precision: str) -> None:
    """It is among what is trained; where it takes the place of its net, nothing is made anew."""
    found = memory("lcm", 1, precision, nets="copy")
    gradients = found.trained / 2
    assert gradients < found.passes < 1.5 * gradients


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("nets", ["lora", "copy"])
@pytest.mark.parametrize("name", ["lcm", "dmd2"])
def test_activations_computed_anew_take_less(name: str, nets: str, precision: str) -> None:
    def reckoned(anew: bool) -> Memory:
        backbone = registry.build_backbone("tiny-sd", {"gradient_checkpointing": anew})
        made = registry.build_method(name, {"nets": nets}, backbone)
        return training_memory(made, precision=precision, batch_size=16)

    kept, anew = reckoned(anew=False), reckoned(anew=True)
    assert anew.unknown == kept.unknown == ""
    assert 0 < anew.passes < 0.8 * kept.passes


def test_ranks_of_a_sharded_training_hold_parts() -> None:
    """Of copies with their averages, and of the teacher; an adapter is on each of them."""
    one, four = (memory("lcm", 1, nets="copy", ranks=ranks) for ranks in (1, 4))
    assert four.trained == one.trained // 4
    assert four.optimizer == one.optimizer // 4
    assert one.weights - one.trained * 3 // 8 - MIB < four.weights < one.weights
    assert four.passes < one.passes + one.trained // 2
    adapter, dealt = (memory("lcm", 1, ranks=ranks) for ranks in (1, 4))
    assert (dealt.trained, dealt.optimizer) == (adapter.trained, adapter.optimizer)
    assert dealt.weights == four.weights


def test_what_is_trained_is_float32() -> None:
    half, full = (memory("lcm", 1, precision, nets="copy") for precision in ("bfloat16", "float32"))
    assert (half.trained, half.optimizer) == (full.trained, full.optimizer)
    assert half.weights < full.weights


def test_no_weights_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    import safetensors.torch

    def refuse(*args: Any, **options: Any) -> Any:
        raise AssertionError("weights were read")

    monkeypatch.setattr(safetensors.torch, "load_file", refuse)
    monkeypatch.setattr("diffusers.UNet2DConditionModel.from_pretrained", refuse)
    assert memory("tdm").total > 0
