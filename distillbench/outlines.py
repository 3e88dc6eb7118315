"""Outlines: networks on torch's meta device, where tensors have shapes and no bytes.

What would be alive on a device is added up while code runs there. Nothing is read but settings, so
that networks of any size are reckoned on any machine. Attention counts as the kernels do that keep
no matrix of scores.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

__all__ = ["META", "Alive", "Memory", "bytes_of", "kernels", "tensors_of"]

META = "meta"


@dataclass(frozen=True)
class Memory:
    """Bytes of a stage on one device.

    Attributes:
        weights: of all networks that are loaded: denoiser, student, text encoders, autoencoder.
        trained: of what is trained, with averages.
        optimizer: moments of what is trained.
        passes: most bytes of activations and gradients that are alive at once, at this batch.
        turn: in which that is: of a role, of the network or the decoder.
        unknown: what is not known, "" where all is.
    """

    weights: int
    trained: int
    optimizer: int
    passes: int
    turn: str = ""
    unknown: str = ""

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.trained + self.optimizer + self.passes


_aten = torch.ops.aten


def _of_numbers(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What hangs on the numbers of an outline, which has none; None for all else.

    A scalar is one, a mask is full, and a copy for the processor is of ones, but of integers, which
    may say places, of zeros: the first place is there at any size.
    """
    tensor = args[-1] if func is _aten.copy_.default else args[0] if args else None
    if not isinstance(tensor, Tensor) or not tensor.is_meta:
        return None
    if func is _aten._local_scalar_dense.default:
        return torch.ones((), dtype=tensor.dtype).item()
    if func is _aten.nonzero.default:
        return tensor.new_empty((tensor.numel(), tensor.ndim), dtype=torch.long)
    if func is _aten._to_copy.default and str(kwargs.get("device", META)) != META:
        dtype = kwargs.get("dtype") or tensor.dtype
        places = tensor.ndim > 0 and dtype in (torch.int32, torch.int64)
        return torch.full(tensor.shape, 0 if places else 1, dtype=dtype)
    return args[0] if func is _aten.copy_.default and not args[0].is_meta else None


class Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the bytes of tensors on the meta device while they live; `there` are not counted."""

    def __init__(self, there: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known = {tensor.untyped_storage()._cdata for tensor in there}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if (known := _of_numbers(func, args, kwargs or {})) is not None:
            return known
        made = func(*args, **(kwargs or {}))
        for value in tree_iter(made):
            if isinstance(value, Tensor) and value.is_meta:
                self._count(value.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        name, size = storage._cdata, storage.nbytes()
        if name in self._known:
            return
        self._known.add(name)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, name, size)

    def _forget(self, name: int, size: int) -> None:
        self._known.discard(name)
        self.now -= size


class _Attention(torch.autograd.Function):
    """The shapes of attention that keeps queries, keys, values and its output alone."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output = query.new_empty((*query.shape[:-1], value.shape[-1]))
        ctx.save_for_backward(query, key, value, output)
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors[:3])


@contextmanager
def kernels() -> Iterator[None]:
    """Attention of outlines as a device's own kernels do it.

    In the function's own place, as a mode of torch's is off inside backward, where layers that are
    computed anew would keep other tensors than they did.
    """
    functional: Any = torch.nn.functional
    inner = functional.scaled_dot_product_attention

    def attention(query: Tensor, key: Tensor, value: Tensor, *args: Any, **options: Any) -> Any:
        if query.is_meta:
            return _Attention.apply(query, key, value)
        return inner(query, key, value, *args, **options)

    functional.scaled_dot_product_attention = attention
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = inner


def tensors_of(backbone: Any) -> list[Tensor]:
    """Parameters and buffers of all that a backbone has loaded."""
    pipe = getattr(backbone, "pipe", None)
    parts = pipe.components.values() if pipe is not None else vars(backbone).values()
    all_of_it = [*parts, getattr(backbone, "controls", None)]
    modules = [part for part in all_of_it if isinstance(part, torch.nn.Module)]
    return [t for module in modules for t in (*module.parameters(), *module.buffers())]


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Bytes of their storages, each once."""
    sizes = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}
    return sum(sizes.values())
