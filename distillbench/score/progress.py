"""How a running metric says that it is alive, whatever it loops over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["BATCH", "in_parts", "listening", "tick"]

BATCH = 32

Listener = Callable[[int, int], None]
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


def tick(done: int, total: int) -> None:
    """Report `done` of `total` units of the current loop; a stop request is raised from here."""
    listener = _listener.get()
    if listener is not None:
        listener(done, total)


def in_parts(total: int, size: int = BATCH) -> Iterator[slice]:
    """Slices of `size` out of `total`, each told as done when the next is asked for."""
    for start in range(0, total, size):
        part = slice(start, min(start + size, total))
        yield part
        tick(part.stop, total)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Send every `tick` inside the block to `listener`."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
