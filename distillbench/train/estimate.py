"""How much memory a training takes, reckoned before it starts: its very losses on outlines.

The backbone is loaded on torch's meta device, where tensors have shapes and no bytes; the method's
losses run there forward and backward, and what is alive at any moment is added up. Nothing is read
but settings, so that networks of any size are reckoned on any machine. Attention counts as the
kernels do that keep no matrix of scores.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from distillbench.api.method import Batch, Method
from distillbench.train.role import Role, make_role, only

__all__ = ["Memory", "training_memory"]

META = "meta"
MOMENTS = 2
"""Of Adam, for every trained weight."""


@dataclass(frozen=True)
class Memory:
    """Bytes of a training on one device.

    Attributes:
        weights: of all networks that are loaded: denoiser, text encoders, autoencoder.
        trained: of what is trained, with averages.
        optimizer: moments of what is trained.
        passes: most bytes of activations and gradients that are alive at once, at this batch.
        turn: in which that is.
        unknown: why `passes` is not known, "" where it is.
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


def training_memory(method: Method, *, precision: str, batch_size: int) -> Memory:
    """Reckon the training of a method on its backbone, neither of them loaded yet.

    Args:
        batch_size: samples of a micro-batch.
    """
    backbone = method.backbone
    backbone.load(META, dtype=precision)
    loaded = _bytes(_modules_of(backbone))
    method.total_steps = 1000
    with torch.device(META):
        roles = {
            name: make_role(method, name, spec, seed=0, lr_scale=1.0, device=META)
            for name, spec in method.nets().items()
        }
    method.bind({name: role.net for name, role in roles.items()})
    own = [p for role in roles.values() for p in role.parameters]
    means = [p for r in roles.values() if r.net.ema is not None for p in r.net.ema.parameters()]
    most, turn, unknown = 0, "", ""
    for name in dict.fromkeys(method.turns(0)):
        try:
            found = _turn(method, name, roles, batch_size, _tensors(backbone, roles))
        except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
            unknown = f"turn {name}: {' '.join(str(error).split())[:100]}"
            continue
        if found > most:
            most, turn = found, name
    trained = _bytes(own)
    return Memory(loaded, trained + _bytes(means), MOMENTS * trained, most, turn, unknown)


def _turn(
    method: Method, name: str, roles: Mapping[str, Role], size: int, there: Iterable[Tensor]
) -> int:
    role = roles[name]
    only(name, roles.items())
    batch = _batch(method, size)
    tally = Tally(there)
    with _Kernels(), tally, role.net.active():
        total: Any = method.loss(name, batch, 0).total
        total.backward()
    for parameter in role.parameters:
        parameter.grad = None
    return tally.peak


def _batch(method: Method, size: int) -> Batch:
    backbone = method.backbone
    with torch.no_grad():
        cond, uncond = backbone.encode([""] * size), backbone.encode_null()
    latents = torch.empty((size, *backbone.latent_shape), device=META)
    return Batch(
        [""] * size, cond, uncond, latents if "latents" in method.needs else None,
        backbone.latent_shape, (0, 0), device=META,
    )  # fmt: skip


# ---- what is alive -------------------------------------------------------------------------


_aten = torch.ops.aten


def _of_numbers(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What hangs on the numbers of an outline, which has none; None for all else.

    A scalar is one, a mask is full, and a copy for the processor is of ones.
    """
    tensor = args[-1] if func is _aten.copy_.default else args[0] if args else None
    if not isinstance(tensor, Tensor) or not tensor.is_meta:
        return None
    if func is _aten._local_scalar_dense.default:
        return torch.ones((), dtype=tensor.dtype).item()
    if func is _aten.nonzero.default:
        return tensor.new_empty((tensor.numel(), tensor.ndim), dtype=torch.long)
    if func is _aten._to_copy.default and str(kwargs.get("device", META)) != META:
        return torch.ones(tensor.shape, dtype=kwargs.get("dtype") or tensor.dtype)
    return args[0] if func is _aten.copy_.default and not args[0].is_meta else None


class Tally(TorchDispatchMode):  # type: ignore[no-untyped-call]
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


class _Kernels(TorchFunctionMode):
    """Attention as a device's own kernels do it."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.nn.functional.scaled_dot_product_attention:
            return _Attention.apply(*args[:3]) if len(args) >= 3 else _Attention.apply(
                *(kwargs[name] for name in ("query", "key", "value"))
            )  # fmt: skip
        return func(*args, **(kwargs or {}))


def _modules_of(backbone: Any) -> list[Tensor]:
    pipe = getattr(backbone, "pipe", None)
    parts = pipe.components.values() if pipe is not None else vars(backbone).values()
    modules = [part for part in parts if isinstance(part, torch.nn.Module)]
    return [t for module in modules for t in (*module.parameters(), *module.buffers())]


def _tensors(backbone: Any, roles: Mapping[str, Role]) -> list[Tensor]:
    found = _modules_of(backbone)
    for role in roles.values():
        module = role.net.module
        found += [*role.parameters, *module.parameters(), *module.buffers()]
    return found


def _bytes(tensors: Iterable[Tensor]) -> int:
    sizes = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}
    return sum(sizes.values())
