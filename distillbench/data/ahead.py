"""Batches made by a thread ahead of the step that takes them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

import torch

from distillbench.api.method import Batch

__all__ = ["Ahead", "BatchKey", "MakeBatch"]

BatchKey = tuple[int, int, int]
"""Step, micro-batch and repeat of a batch."""
MakeBatch = Callable[[int, int, int], Batch]
END: BatchKey = (-1, -1, -1)
DEPTH = 2
PATIENCE = 0.2


class Ahead:
    """Makes the batches of these keys in their order, each before it is asked for.

    A batch depends on its key alone, so that it is the same whoever makes it and when. What the
    thread raised is raised by the call that asks for that batch.

    Args:
        make: makes a batch.
        keys: in the order that they will be asked for; one that comes out of order is made by the
            caller, and so are all after it.
    """

    def __init__(self, make: MakeBatch, keys: Iterator[BatchKey]) -> None:
        self._make, self._keys = make, keys
        self._made: queue.Queue[tuple[BatchKey, Batch | BaseException | None]] = queue.Queue(DEPTH)
        self._stopped = threading.Event()
        self._threads = torch.get_num_threads()
        self._thread = threading.Thread(target=self._work, name="batches", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()

    def batch(self, step: int, micro: int, repeat: int = 0) -> Batch:
        """See `DataSource.batch`; raises what making it raised."""
        if not self._stopped.is_set():
            key, made = self._made.get()
            if isinstance(made, BaseException):
                raise made
            if made is not None and key == (step, micro, repeat):
                return made
            self._stopped.set()
            self._thread.join()  # two at once would share the encoders
        return self._make(step, micro, repeat)

    def _work(self) -> None:
        torch.set_num_threads(self._threads)  # a thread has its own number, and sums depend on it
        try:
            for key in self._keys:
                if not self._put(key, self._make(*key)):
                    return
            self._put(END, None)
        except BaseException as error:
            self._put(END, error)

    def _put(self, key: BatchKey, made: Batch | BaseException | None) -> bool:
        """Wait for room; False where nobody takes it any more."""
        while not self._stopped.is_set():
            try:
                self._made.put((key, made), timeout=PATIENCE)
                return True
            except queue.Full:
                continue
        return False
