"""The optimizers of trained roles, and their states as plain tensors.

AdamW is torch's; with moments of 8 bits (arXiv 2110.02861) it is torchao's, which keeps those of
tensors of 4,096 numbers and more as codes with a scale for each 256.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from distillbench.api.method import Optim
from distillbench.specs.settings import OptimizerKind

__all__ = ["States", "flatten", "make", "restore", "step"]

States = dict[str, torch.Tensor]


def make(
    kind: OptimizerKind, parameters: Sequence[torch.nn.Parameter], optim: Optim, device: str
) -> torch.optim.Optimizer:
    """An optimizer over parameters on a device."""
    told: dict[str, Any] = {"lr": optim.lr, "betas": optim.betas, "eps": optim.eps,
                            "weight_decay": optim.weight_decay}  # fmt: skip
    if kind == "adamw":
        return torch.optim.AdamW(parameters, fused=device.startswith("cuda") or None, **told)
    from torchao.optim import AdamW8bit

    made: torch.optim.Optimizer = AdamW8bit(parameters, **told)
    return made


def step(optimizer: torch.optim.Optimizer, rate: float, scaler: Any = None) -> None:
    """Update by the gathered gradients at a learning rate, and forget them."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
    with _eagerly(optimizer):
        scaler.step(optimizer) if scaler else optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _eagerly(optimizer: torch.optim.Optimizer) -> AbstractContextManager[Any]:
    """What compiles its update does so on a GPU alone, and needs no compiler on a processor."""
    first = optimizer.param_groups[0]["params"][0]
    if first.is_cuda or isinstance(optimizer, torch.optim.AdamW):
        return nullcontext()
    stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return stance


def flatten(optimizer: torch.optim.Optimizer) -> States:
    """Moments and counters as "<parameter index>/<moment>" -> tensor.

    A moment of 8 bits is the tensors that it is made of, "<parameter index>/<moment>/<part>".
    """
    found: States = {}
    for i, moments in optimizer.state_dict()["state"].items():
        for name, value in moments.items():
            if not hasattr(value, "__tensor_flatten__"):
                found[f"{i}/{name}"] = value
                continue
            for part in value.__tensor_flatten__()[0]:
                found[f"{i}/{name}/{part}"] = getattr(value, part)
    return found


def restore(optimizer: torch.optim.Optimizer, tensors: States) -> None:
    """Put back what `flatten` gave."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        index, name, *part = key.split("/")
        moments = state.setdefault(int(index), {})
        if part:
            moments.setdefault(name, {})[part[0]] = value
        else:
            moments[name] = value
    for moments in state.values():
        for name, value in moments.items():
            if isinstance(value, dict):
                moments[name] = _of_8_bits(value, signed=name == "exp_avg")
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _of_8_bits(parts: States, *, signed: bool) -> Any:
    from torchao.optim.subclass_8bit import OptimState8bit

    return OptimState8bit(**parts, signed=signed, dtype=torch.float32)
