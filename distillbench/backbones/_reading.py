"""Activations of a network's layers, read in a call that ends after the last of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from torch import Tensor, nn

from distillbench.errors import NotSupported

__all__ = ["reading"]


class _Enough(Exception):
    """All wanted features are there; the rest of the network need not run."""


@contextmanager
def reading(module: nn.Module, layers: Sequence[str], which: int) -> Iterator[dict[str, Tensor]]:
    """Collect what the layers at these paths put out in the call inside, which then ends.

    An exception leaves the call. Parts of a sharded network have to see their forward return: they
    let go of their weights then, and gather them again when backward comes to what was returned. So
    they return the features, and the call goes on being left after their own hooks.

    Args:
        which: the output that counts of a layer that has several.

    Raises:
        NotSupported: there is no such layer.
    """
    found: dict[str, Tensor] = {}
    wanted = {name: _layer(module, name) for name in layers}

    def keep(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            found[name] = output if isinstance(output, Tensor) else output[which]
            leave()

        return hook

    def leave(*_: Any) -> None:
        if len(found) == len(wanted):
            raise _Enough

    hooks = [layer.register_forward_hook(keep(name)) for name, layer in wanted.items()]
    sharded = _sharded_around(module, wanted)
    hooks += [part.register_forward_hook(leave) for part in sharded]
    for part in sharded:
        part.forward = _returning(part.forward, found)
    try:
        with suppress(_Enough):
            yield found
    finally:
        for handle in hooks:
            handle.remove()
        for part in sharded:
            del part.forward


def _returning(forward: Callable[..., Any], found: dict[str, Tensor]) -> Callable[..., Any]:
    """A forward that returns what was found where it is left."""

    def returns(*args: Any, **options: Any) -> Any:
        try:
            return forward(*args, **options)
        except _Enough:
            return tuple(found.values())

    return returns


def _sharded_around(module: nn.Module, layers: Iterable[str]) -> list[nn.Module]:
    """Modules around the layers that FSDP2 gathers, the innermost first."""
    paths = {path.rsplit(".", n)[0] for path in layers for n in range(1, path.count(".") + 1)}
    around = [module.get_submodule(path) for path in sorted(paths | {""}, key=len, reverse=True)]
    return [part for part in around if hasattr(part, "reshard")]


def _layer(module: nn.Module, name: str) -> nn.Module:
    try:
        return module.get_submodule(name)
    except AttributeError:
        top = ", ".join(n for n, _ in module.named_children())
        raise NotSupported(f"the network has no layer {name!r}; its parts are {top}") from None
