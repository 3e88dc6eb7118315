"""How a running metric says that it is alive, whatever it loops over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

__all__ = ["BATCH", "ahead", "in_parts", "listening", "made_ahead", "tick"]

BATCH = 32

Listener = Callable[[int, int], None]
One = TypeVar("One")
Made = TypeVar("Made")
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


def tick(done: int, total: int) -> None:
    """Report `done` of `total` units of the current loop; a stop request is raised from here."""
    listener = _listener.get()
    if listener is not None:
        listener(done, total)


def in_parts(total: int, size: int = BATCH) -> Iterator[slice]:
    """Slices of `size` out of `total`, each told as done when the next is asked for."""
    for part in _parts(total, size):
        yield part
        tick(part.stop, total)


def _parts(total: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, total)) for start in range(0, total, size))


def made_ahead(make: Callable[[One], Made], each: Iterable[One]) -> Iterator[Made]:
    """`make` of each, in order; the next is made in a thread while the caller uses the last.

    At most two are held at a time. What `make` raises is raised here, in its turn.
    """
    with ThreadPoolExecutor(1) as pool:
        jobs = (pool.submit(make, one) for one in each)
        following = next(jobs, None)
        while following is not None:
            now, following = following, next(jobs, None)
            yield now.result()


def ahead(
    make: Callable[[slice], Made], total: int, size: int = BATCH
) -> Iterator[tuple[slice, Made]]:
    """As `in_parts`, each slice with what `make` made of it: read, decoded and resized ahead."""
    return zip(in_parts(total, size), made_ahead(make, _parts(total, size)))


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Send every `tick` inside the block to `listener`."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
