"""The store as one report sees it: what was found of a stage is asked for once."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from distillbench.plan.stage import StageKind

__all__ = ["Snapshot", "StoreLike"]


class StoreLike(Protocol):
    """The part of the store that reports read."""

    def path(self, kind: StageKind, key: str) -> Path:
        """Folder of a finished stage."""
        ...

    def is_done(self, kind: StageKind, key: str) -> bool:
        """Whether the stage ended with its commit marker."""
        ...

    def reason(self, kind: StageKind, key: str) -> str:
        """Why a stage has no result, "" when it is done or never ran."""
        ...


class Snapshot:
    """Remembers the answers of a store: comparing every byte of a stage once a report is enough."""

    def __init__(self, store: StoreLike) -> None:
        self._store = store
        self._done: dict[str, bool] = {}
        self._reasons: dict[str, str] = {}

    def path(self, kind: StageKind, key: str) -> Path:
        """Folder of a finished stage."""
        return self._store.path(kind, key)

    def is_done(self, kind: StageKind, key: str) -> bool:
        """Whether the stage is committed and as it was committed."""
        if key not in self._done:
            self._done[key] = self._store.is_done(kind, key)
        return self._done[key]

    def reason(self, kind: StageKind, key: str) -> str:
        """Why a stage has no result, "" when it is done or never ran."""
        if self.is_done(kind, key):
            return ""
        if key not in self._reasons:
            self._reasons[key] = self._store.reason(kind, key)
        return self._reasons[key]
