"""Adapters compute in the dtype of the base, with float32 weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from distillbench.api.backbone import Backbone
from distillbench.backbones._lora import SharedBase

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "product": lambda: nn.Linear(6, 5),
    "convolution": lambda: nn.Conv2d(6, 5, 3, stride=2, padding=1),
    "one dimension": lambda: nn.Conv1d(6, 5, 3, padding=1),
    "three dimensions": lambda: nn.Conv3d(6, 5, 3, padding=1, bias=False),
}
SHAPES = {"product": (2, 6), "convolution": (2, 6, 8, 8), "one dimension": (2, 6, 8),
          "three dimensions": (2, 6, 3, 4, 4)}  # fmt: skip


class Wrapped(nn.Module):
    """A network of one layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)  # type: ignore[no-any-return]


def adapted(kind: str, dtype: torch.dtype) -> tuple[Any, torch.Tensor]:
    """A role on one layer in `dtype`, and an input."""
    torch.manual_seed(0)
    base = SharedBase(Wrapped(LAYERS[kind]()).to(dtype))
    net = base.add("student", rank=2, alpha=1.0, targets=["layer"])
    return net, torch.randn(SHAPES[kind]).to(dtype)


def called(net: Any, x: torch.Tensor) -> torch.Tensor:
    with net.active():
        return net.module(x)  # type: ignore[no-any-return]


def move(net: Any) -> None:
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.3 * torch.randn_like(parameter)


@pytest.mark.parametrize("kind", LAYERS)
def test_float32_is_what_peft_computes(kind: str) -> None:
    net, x = adapted(kind, torch.float32)
    move(net)
    layer = net.module.layer
    down, up = layer.lora_A["student"], layer.lora_B["student"]
    if kind == "product":
        delta = x @ down.weight.T @ up.weight.T
    else:
        plain = type(layer.base_layer)
        first = plain(6, 2, down.kernel_size, down.stride, down.padding, bias=False)
        first.weight = down.weight
        second = plain(2, 5, 1, bias=False)
        second.weight = up.weight
        delta = second(first(x))
    assert torch.equal(called(net, x), layer.base_layer(x) + delta * 0.5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", LAYERS)
def test_half_precision_keeps_no_float32_activation(kind: str, dtype: torch.dtype) -> None:
    net, x = adapted(kind, dtype)
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    before = net.module.layer.base_layer(x)
    assert torch.equal(called(net, x), before)  # a zero adapter, bit for bit
    move(net)
    kept: list[torch.Tensor] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = called(net, x)
    assert output.dtype == dtype
    assert all(t.dtype == dtype for t in kept)
    output.float().square().mean().backward()
    for parameter in net.parameters():
        assert parameter.grad.dtype == torch.float32
        assert bool(parameter.grad.abs().max() > 0)


@pytest.mark.parametrize("kind", LAYERS)
def test_half_precision_is_near_float32(kind: str) -> None:
    low, x = adapted(kind, torch.bfloat16)
    move(low)
    high, _ = adapted(kind, torch.float32)
    high.module.load_state_dict({n: v.float() for n, v in low.module.state_dict().items()})
    expected = called(high, x.float())
    error = (called(low, x).float() - expected).norm() / expected.norm()
    assert 0 < float(error.detach()) < 1e-2


def test_a_network_in_half_precision_keeps_half_precision(build: Callable[..., Backbone]) -> None:
    """The largest activation that a training step keeps is of the load dtype."""
    sizes: dict[torch.dtype, int] = {}
    backbone = build("sd", dtype="bfloat16")
    net = backbone.make_net("student", "lora", rank=4)

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.numel()
        return tensor

    x, cond = torch.randn(1, *backbone.latent_shape), backbone.encode(["a red car"])
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), net.active():
        backbone.predict(net, x, torch.tensor([500]), cond).raw.square().mean().backward()
    assert sizes.get(torch.float32, 0) < 0.02 * sizes[torch.bfloat16]
