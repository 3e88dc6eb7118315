"""Signals that ask a run to stop are counted, so that it stops where it can be continued."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Signals"]

# A closed terminal (SIGHUP) asks for no more than a scheduler does (SIGTERM).
_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """How many requests to stop have come."""

    def __init__(self) -> None:
        self.count = 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count SIGINT, SIGTERM and SIGHUP, but for nohup's, instead of dying of them."""

        def count(number: int, frame: Any) -> None:
            self.count += 1

        if threading.current_thread() is not threading.main_thread():
            yield  # signals reach the main thread alone
            return
        nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        heard = [number for number in _STOP if not (nohup and number is signal.SIGHUP)]
        before = {number: signal.signal(number, count) for number in heard}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
