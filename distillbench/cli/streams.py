"""Standard streams that may be closed or full: what is said is lost, what is done is not."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

__all__ = ["guarded_output", "lost", "open_streams"]


class _Guarded:
    """A text stream whose failures are remembered instead of raised."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self.failure: OSError | None = None

    def write(self, text: str) -> int:
        """Write, unless an earlier write failed."""
        if self.failure is None:
            try:
                return self._stream.write(text)
            except OSError as error:
                self._lose(error)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write every line."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush, unless an earlier write failed."""
        if self.failure is None:
            try:
                self._stream.flush()
            except OSError as error:
                self._lose(error)

    def _lose(self, error: OSError) -> None:
        """Remember the failure; what is still buffered goes nowhere, at exit too."""
        self.failure = error
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def guarded_output() -> Iterator[_Guarded]:
    """Standard output that cannot end a command; its `failure` says whether anything was lost."""
    stream = sys.stdout
    guard = _Guarded(stream)
    sys.stdout = guard
    try:
        yield guard
        guard.flush()
    finally:
        sys.stdout = stream


def lost(failure: OSError) -> bool:
    """Whether output was lost that somebody still waits for; a reader that left wants no more."""
    return failure.errno not in (errno.EPIPE, errno.ESHUTDOWN)


def open_streams() -> None:
    """Point standard descriptors that are closed at nothing, so that no file of ours gets them."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 (lives on)
