"""Passes without gradient through weights that an adapter was added to.

An adapter costs two products more in every layer it is on. Where no gradient is wanted, its role
can be computed at the price of the base, from a copy of the adapted layers' weights that is made
anew after each update of the role.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from distillbench.api.nets import NetHandle
from distillbench.backbones._lora import SharedBase

__all__ = ["Merged"]

_State = tuple[int, ...]


class Merged:
    """Merged weights of the roles on a shared base, one copy of the adapted layers for each.

    Equal to the adapters up to rounding in float32. In half precision it would not be: a sum loses
    what is less than some thousandth of the weight, and early updates are.
    """

    def __init__(self, base: SharedBase) -> None:
        self._base = base
        self._kept: dict[str, tuple[_State, list[tuple[Tensor, Tensor]]]] = {}

    @contextmanager
    def acting(self, net: NetHandle) -> Iterator[None]:
        """Let the base act as `net`, a role on it or its average, without gradient."""
        pairs = self._of(net)
        with self._base.slot.acting(None):
            plain = [weight.data for weight, _ in pairs]
            for weight, merged in pairs:
                weight.data = merged
            try:
                yield
            finally:
                for (weight, _), value in zip(pairs, plain, strict=True):
                    weight.data = value

    def _of(self, net: NetHandle) -> list[tuple[Tensor, Tensor]]:
        """(weight of the base, its merged value) for each layer; made anew if `net` has changed."""
        # Every write into a tensor raises its version, be it an optimizer's or a checkpoint's.
        state = tuple(parameter._version for parameter in net.parameters())
        known, pairs = self._kept.get(net.name, ((), []))
        if known != state:
            pairs = self._made(net, {id(weight): value for weight, value in pairs})
            self._kept[net.name] = state, pairs
        return pairs

    @torch.no_grad()
    def _made(self, net: NetHandle, old: dict[int, Tensor]) -> list[tuple[Tensor, Tensor]]:
        with net.active():  # an average takes the place of the role's own factors
            return [
                (
                    weight,
                    torch.add(weight, delta, out=old.get(id(weight), torch.empty_like(weight))),
                )
                for weight, delta in self._base.deltas()
            ]
