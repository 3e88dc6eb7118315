"""Where a pipeline's weights come from, and which weights exactly (no torch here)."""

from __future__ import annotations

import hashlib
import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from distillbench.datadir import cache_root
from distillbench.errors import MissingWeights

__all__ = ["Source", "cache_root", "content_hash"]

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Source:
    """A local folder or a hub repository.

    Attributes:
        model: a folder, or "owner/name".
        commit: branch, tag or commit of the repository; "" is its main branch.
    """

    model: str
    commit: str = ""

    @property
    def folder(self) -> Path | None:
        """The local folder it names, None for a repository.

        Raises:
            MissingWeights: it is written as a path and no such folder is there.
        """
        path = Path(self.model).expanduser()
        if path.is_dir():
            return path
        if self.model.startswith((".", "/", "~")) or self.model.count("/") != 1:
            raise MissingWeights(f"no weights in {path}: no such folder")
        return None

    def revision(self) -> str:
        """Content hash of a folder, a pinned commit, or "unpinned:<model>@<revision>"."""
        folder = self.folder
        if folder is not None:
            return content_hash(folder)
        if _COMMIT.fullmatch(self.commit):
            return self.commit
        return f"unpinned:{self.model}@{self.commit or 'main'}"

    def __str__(self) -> str:
        return f"{self.model}@{self.commit}" if self.commit else self.model


def content_hash(folder: Path) -> str:
    """sha256 over the names, sizes and sha256 of a folder's files (hidden ones aside).

    The files' own hashes are remembered by size and modification time, since pipelines have
    gigabytes and planning is to take less than a second.
    """
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and not _hidden(p, folder)]
    if not files:
        raise MissingWeights(f"no weights in {folder}: the folder is empty")
    known = _Hashes(folder)
    lines = (f"{p.relative_to(folder).as_posix()}\t{p.stat().st_size}\t{known.of(p)}\n"
             for p in files)  # fmt: skip
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    known.save()
    return digest


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


class _Hashes:
    """sha256 of files by (path, size, modification time), kept between processes."""

    def __init__(self, folder: Path) -> None:
        name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:20]
        self._file = cache_root() / "hashes" / f"{name}.json"
        self._before: dict[str, str] = {}
        self._now: dict[str, str] = {}
        with suppress(OSError, ValueError):
            self._before = json.loads(self._file.read_text(encoding="utf-8"))

    def of(self, path: Path) -> str:
        stat = path.stat()
        key = f"{path.resolve()}\t{stat.st_size}\t{stat.st_mtime_ns}"
        if key not in self._now:
            self._now[key] = self._before.get(key) or _sha256(path)
        return self._now[key]

    def save(self) -> None:
        if self._now == self._before:
            return
        with suppress(OSError):  # a read-only home only costs time
            self._file.parent.mkdir(parents=True, exist_ok=True)
            building = self._file.with_suffix(f".{os.getpid()}.tmp")
            building.write_text(json.dumps(self._now), encoding="utf-8")
            building.replace(self._file)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
