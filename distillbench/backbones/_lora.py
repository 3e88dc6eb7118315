"""One frozen base network that all roles share, each as its own low-rank adapter.

The teacher is the base with no adapter, bit for bit. Memory is one base in half precision plus a
few megabytes per role, where three copies of SDXL need 87 GB with their optimizers.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import nn

from distillbench.api.nets import NetHandle, Slot
from distillbench.backbones._conditions import TimeConditions
from distillbench.backbones._factors import compute_in_input_dtype
from distillbench.errors import NotSupported

__all__ = ["SharedBase", "patterns"]


def patterns(layers: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """peft's settings of an adapter that has a rank and an alpha of its own in each layer.

    Args:
        layers: path of a layer -> (rank, alpha).
    """
    (rank, alpha), _ = Counter((int(r), float(a)) for r, a in layers.values()).most_common(1)[0]
    names = {layer: f"^{re.escape(layer)}" for layer in layers}
    return {
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": list(layers),
        "rank_pattern": {names[n]: int(r) for n, (r, _) in layers.items() if int(r) != rank},
        "alpha_pattern": {names[n]: float(a) for n, (_, a) in layers.items() if a != alpha},
    }


class SharedBase:
    """Adds adapters to a frozen module and switches between them.

    All adapter layers read the SAME list of active names, so a switch changes one list, costs
    nothing and never touches `requires_grad` (peft's own `set_adapter` does, and a parameter that
    is frozen when backward runs silently gets no gradient).
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module.requires_grad_(False)
        self.slot = Slot()
        self._active: list[str] = []
        self._names: list[str] = []

    def add(
        self,
        name: str,
        *,
        rank: int,
        alpha: float,
        targets: Sequence[str],
        conditions: tuple[str, ...] = (),
        extras: TimeConditions | None = None,
    ) -> NetHandle:
        """A role whose adapter starts at zero (its B factor is), its weights in float32.

        Args:
            alpha: the adapter is scaled by alpha / rank.
            targets: name endings of the layers that get one.

        Raises:
            NotSupported: the name is taken, or no layer ends in any of `targets`.
        """
        config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets))
        return self.add_as(name, config, conditions, extras)

    def add_as(
        self,
        name: str,
        config: LoraConfig,
        conditions: tuple[str, ...] = (),
        extras: TimeConditions | None = None,
    ) -> NetHandle:
        """`add`, with all that peft is told of the adapter."""
        if name in self._names:
            raise NotSupported(f"net {name!r} exists already on this backbone")
        trained = [p for p in self.module.parameters() if p.requires_grad]
        # Several adapters in one model are the point here.
        warnings.filterwarnings("ignore", "Already found a `peft_config`", UserWarning)
        try:
            inject_adapter_in_model(config, self.module, adapter_name=name)
        except ValueError as error:
            targets = sorted(config.target_modules)
            raise NotSupported(f"target_modules {', '.join(targets[:9])}: {error}") from None
        self._names.append(name)
        for layer in self._layers():
            compute_in_input_dtype(layer, name)
        own = self._adapter(name)
        if extras is not None:
            own |= {f"conditions.{n}": p for n, p in extras.named_parameters()}
        # Injecting froze the other roles and made the new one active: undo both.
        for layer in self._layers():
            layer._active_adapter = self._active
        for parameter in (*trained, *own.values()):
            parameter.requires_grad_(True)
        return NetHandle(
            name, self.module, parameters=own, conditions=conditions, slot=self.slot,
            activate=lambda: self._switched_on(name), extras=extras,
        )  # fmt: skip

    def deltas(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """(weight of the base, what the active adapter adds to it), in the base's dtype."""
        for name in self._active:
            for layer in self._layers():
                if name in layer.lora_A:
                    weight: torch.Tensor = layer.get_base_layer().weight
                    yield weight, layer.get_delta_weight(name).to(weight.dtype)

    @torch.no_grad()
    def merge(self, name: str) -> None:
        """Add an adapter to the base for good; its role is gone afterwards."""
        with self._switched_on(name):
            for weight, delta in self.deltas():
                weight += delta
        for layer in self._layers():
            if name in layer.lora_A:
                layer.delete_adapter(name)
                layer._active_adapter = self._active
        self._names.remove(name)

    @contextmanager
    def _switched_on(self, name: str) -> Iterator[None]:
        self._active[:] = [name]
        try:
            yield
        finally:
            self._active.clear()

    def _layers(self) -> Iterator[LoraLayer]:
        return (m for m in self.module.modules() if isinstance(m, LoraLayer))

    def _adapter(self, name: str) -> dict[str, nn.Parameter]:
        """The adapter's tensors as "<layer>.lora_A.weight"."""
        found = {}
        for path, parameter in self.module.named_parameters():
            layer, dot, rest = path.rpartition(f".{name}.")
            if dot and layer.rpartition(".")[2] in ("lora_A", "lora_B"):
                found[f"{layer}.{rest}"] = parameter
        return found
