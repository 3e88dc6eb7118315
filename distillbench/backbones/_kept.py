"""The pipeline that a process read last, kept for its next stage: one, and as it was read."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["KEPT", "KeptPipeline", "apart"]


class KeptPipeline:
    """At most one pipeline between the stages of a worker.

    A stage puts adapters, hooks and processors into the modules it gets. They are therefore made
    anew for each, around the same tensors, and are lent to one user a stage. A stage that wrote
    into the tensors (its teacher was replaced) is found out by their versions, which every write
    raises, and one that ended by an error is not trusted: both leave nothing behind.
    """

    def __init__(self) -> None:
        self._key: Hashable = None
        self._pipe: Any = None
        self._versions: list[tuple[Any, int]] = []
        self._lends = False

    @contextmanager
    def stage(self, *, lends: bool) -> Iterator[None]:
        """One stage; a stage that reads no pipeline (`lends` False) gets the memory instead."""
        if not lends:
            self._drop()
        self._lends = lends
        try:
            yield
        except BaseException:
            self._drop()
            raise
        finally:
            self._lends = False
            if any(tensor._version != version for tensor, version in self._versions):
                self._drop()

    def pipeline(self, key: Hashable, read: Callable[[], Any]) -> Any:
        """What `read` gives, from memory where it was the last that was read.

        Args:
            key: all that decides what is read.
        """
        if not self._lends:
            return read()
        self._lends = False  # whoever reads another in this stage may write into it
        if self._pipe is None or key != self._key:
            self._drop()  # before the next is read: two might not fit
            self._key, self._pipe = key, read()
            self._versions = [(tensor, tensor._version) for tensor in _tensors(self._pipe)]
        return apart(self._pipe)

    def _drop(self) -> None:
        self._key, self._pipe, self._versions = None, None, []


KEPT = KeptPipeline()


def apart(pipe: Any) -> Any:
    """The pipeline again: other modules around the same tensors."""
    memo = {id(tensor): tensor for tensor in _tensors(pipe)}
    other = copy.copy(pipe)
    for name, part in pipe.components.items():
        if _is_module(part):
            setattr(other, name, copy.deepcopy(part, memo))
    return other


def _tensors(pipe: Any) -> list[Any]:
    modules = [part for part in pipe.components.values() if _is_module(part)]
    return [t for m in modules for t in itertools.chain(m.parameters(), m.buffers())]


def _is_module(part: Any) -> bool:
    return hasattr(part, "named_parameters")
