"""Scalar conditions added to a network's time embedding; they start as no change at all.

"guidance" is LCM's embedding of the guidance scale (arXiv 2310.04378, section 4.2), in the very
form diffusers pipelines feed it through `time_embedding.cond_proj`: sinusoids of 1000 w with
w = guidance_scale - 1, 256 numbers, a linear map without bias added to the input of the time MLP.
"end_t" (TCD's S+ variant, arXiv 2402.19159) and "steps_k" (TDM-unify, arXiv 2503.06674) add
MLP(sinusoids) to its output; how the papers inject them is not stated, so the form is our choice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from distillbench.errors import NotSupported

__all__ = ["CONDITIONS", "TimeConditions", "TimeTap", "sinusoids"]

CONDITIONS = ("guidance", "end_t", "steps_k")
DIM = 256


def sinusoids(value: Tensor, dim: int = DIM) -> Tensor:
    """(B, dim) float32: sine then cosine of value * 10000^(-i / (dim / 2 - 1))."""
    half = dim // 2
    rates = torch.exp(-math.log(10000.0) / (half - 1) * torch.arange(half, device=value.device))
    angles = value.float()[:, None] * rates[None]
    return torch.cat([angles.sin(), angles.cos()], 1)


class TimeConditions(nn.Module):
    """The embeddings of one role's conditions, trained in full.

    Args:
        names: out of "guidance", "end_t", "steps_k".
        inside: width of the time MLP's input.
        outside: width of its output.
    """

    def __init__(self, names: tuple[str, ...], inside: int, outside: int) -> None:
        super().__init__()
        if unknown := set(names) - set(CONDITIONS):
            raise NotSupported(
                f"unknown conditions {', '.join(sorted(unknown))}; allowed: {', '.join(CONDITIONS)}"
            )
        self.guidance = nn.Linear(DIM, inside, bias=False) if "guidance" in names else None
        self.added = nn.ModuleDict({n: _zero_ended(outside) for n in CONDITIONS[1:] if n in names})
        if self.guidance is not None:
            nn.init.zeros_(self.guidance.weight)

    def signals(self, name: str, values: Mapping[str, Tensor | None]) -> tuple[Any, Any]:
        """What is added to the time MLP's input and output, (B, width) each or 0.

        Raises:
            NotSupported: role `name` has a condition whose value is not given.
        """
        before, after = 0, 0
        if self.guidance is not None:
            scale = _given(name, "guidance", values)
            before = self.guidance(sinusoids(1000.0 * (scale - 1.0)))
        for key, layer in self.added.items():
            value = _given(name, key, values)
            # 1000 / K is the last input time of a K-step student, so it has a time's range.
            after = after + layer(sinusoids(1000.0 / value if key == "steps_k" else value))
        return before, after


def _zero_ended(width: int) -> nn.Sequential:
    last = nn.Linear(width, width)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(DIM, width), nn.SiLU(), last)


def _given(role: str, key: str, values: Mapping[str, Tensor | None]) -> Tensor:
    value = values.get(key)
    if value is None:
        argument = "embed_scale" if key == "guidance" else key
        raise NotSupported(f"net {role!r} is conditioned on {key}: predict needs {argument}")
    return value.float()


class TimeTap:
    """Hooks on a time MLP that add the signals of the call under way; silent between calls."""

    def __init__(self, time_mlp: nn.Module) -> None:
        self._before: Any = 0
        self._after: Any = 0
        self.inside = int(time_mlp.linear_1.in_features)  # type: ignore[union-attr,arg-type]
        self.outside = int(time_mlp.linear_2.out_features)  # type: ignore[union-attr,arg-type]
        time_mlp.register_forward_pre_hook(self._enter)
        time_mlp.register_forward_hook(self._leave)

    @contextmanager
    def carrying(self, before: Any, after: Any) -> Iterator[None]:
        """Add these signals, or 0, in calls of the network inside."""
        self._before, self._after = before, after
        try:
            yield
        finally:
            self._before = self._after = 0

    def _enter(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if isinstance(self._before, int):
            return None
        return (args[0] + self._before.to(args[0].dtype), *args[1:])

    def _leave(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        return None if isinstance(self._after, int) else output + self._after.to(output.dtype)
