"""Layers with adapters whose weights are float32 and which compute in the dtype of their input.

peft computes an adapter in the dtype of its weights, and brings its input there: on a base in half
precision activations are then kept twice and products run at a fraction of the speed. Here weights
stay float32, for the optimizer, and are cast where they are used. In float32 nothing is cast, and
all results are peft's, bit for bit.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

__all__ = ["compute_in_input_dtype"]


class _Product:
    weight: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight.to(x.dtype))


class _Convolution:
    weight: Tensor
    _conv_forward: Any

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight.to(x.dtype), None)  # type: ignore[no-any-return]


def _kind(own: type, of: type[nn.Module]) -> type:
    return type(of.__name__, (own, of), {})


_KINDS: dict[type, type] = {
    nn.Linear: _kind(_Product, nn.Linear),
    **{kind: _kind(_Convolution, kind) for kind in (nn.Conv1d, nn.Conv2d, nn.Conv3d)},
}


def compute_in_input_dtype(layer: LoraLayer, name: str) -> None:
    """Let the adapter `name` of a layer compute in its input's dtype; its weights become float32.

    Layers with adapters of other forms than two products or convolutions compute as peft does.
    """
    if name not in layer.lora_A:
        return
    factors = [part[name].to(torch.float32) for part in (layer.lora_A, layer.lora_B)]
    plain = all(type(f) in _KINDS and f.bias is None for f in factors)
    if not plain or name in layer.lora_variant:
        layer.__dict__.pop("forward", None)
        return
    for factor in factors:
        factor.__class__ = _KINDS[type(factor)]
    if len(layer.lora_A) == 1 or "forward" in layer.__dict__:
        layer.forward = partial(_forward, layer)


def _forward(layer: Any, x: Tensor, *args: Any, **options: Any) -> Tensor:
    """The base's output and what the active adapters add to it."""
    output: Tensor = layer.base_layer(x, *args, **options)
    for name in layer._active_adapter:
        if name in layer.lora_A:
            added = layer.lora_B[name](layer.lora_A[name](x))
            scale = layer.scaling[name]
            output += added if scale == 1 else added * scale
    return output
