"""Where a pipeline's weights come from, and which weights exactly (no torch here)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distillbench.errors import MissingWeights
from distillbench.files.hashes import file_sha256
from distillbench.files.weight_files import weight_files

__all__ = ["CARD", "UNPINNED", "Source", "content_hash", "loaded_files", "other_weights"]

INDEX = "model_index.json"
CARD = "card.json"
"""What the project says of weights that it ships; no part of them."""
UNPINNED = "unpinned:"
"""How the identity begins of what is not on this disk, and may be other bytes tomorrow."""
_COMMIT = re.compile(r"[0-9a-f]{40}")
_NEVER_READ = {".md", ".rst", ".pdf", ".html", ".log", ".png", ".jpg", ".jpeg", ".gif", ".webp",
               ".bmp", ".svg", ".mp4", ".ipynb"}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """A local folder or a hub repository.

    Attributes:
        model: a folder, or "owner/name".
        commit: branch, tag or commit of the repository; "" is its main branch.
        variant: of the weights' files ("fp16"); "" is the plain one, or the only one.
    """

    model: str
    commit: str = ""
    variant: str = ""

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

    def revision(
        self, *, unused: Collection[str] = (), only: Collection[str] | None = None
    ) -> str:  # fmt: skip
        """Content hash of a folder, or the commit of a repository; see `held`.

        "unpinned:<model>@<revision>" where that is a branch or a tag of what is not on this disk.

        Args:
            unused, only: parts of a folder's pipeline that are not loaded, or alone matter.
        """
        folder = self.folder
        if folder is not None:
            return content_hash(folder, unused=unused, only=only, variant=self.variant)
        return self.held or f"{UNPINNED}{self.model}@{self.commit or 'main'}"

    @property
    def held(self) -> str:
        """The commit of a repository that is meant: named, or what this disk holds of a branch.

        The name of a branch means other bytes tomorrow. "" where none of it is on this disk.
        """
        if _COMMIT.fullmatch(self.commit):
            return self.commit
        snapshot = self.snapshot
        return snapshot.name if snapshot and _COMMIT.fullmatch(snapshot.name) else ""

    @property
    def snapshot(self) -> Path | None:
        """The hub's snapshot of a repository on this disk, None without one."""
        from huggingface_hub import constants

        root = Path(constants.HF_HUB_CACHE) / f"models--{self.model.replace('/', '--')}"
        commit = self.commit or "main"
        with suppress(OSError):
            commit = (root / "refs" / commit).read_text(encoding="utf-8").strip()
        found = root / "snapshots" / commit
        return found if (found / INDEX).is_file() else None

    def __str__(self) -> str:
        return f"{self.model}@{self.commit}" if self.commit else self.model


def other_weights(planned: str, here: str) -> bool:
    """Whether two revisions are of other weights; of unpinned ones nobody knows."""
    return planned != here and not planned.startswith(UNPINNED)


def content_hash(
    folder: Path,
    *,
    unused: Collection[str] = (),
    only: Collection[str] | None = None,
    variant: str = "",
) -> str:
    """sha256 over what is loaded of a folder: by content, and by its name inside the folder.

    Where the folder lies, what it is called and which of its parts are links changes nothing, and
    neither do files that are not loaded. Files are hashed once; see `hashes`.

    Args:
        folder: of a pipeline in diffusers' format, or of anything else, which is hashed whole.
        unused: parts of the pipeline that are not loaded.
        only: the parts that matter; None is all of them.
        variant: see `Source`.

    Raises:
        MissingWeights: nothing to load is in it, or it cannot be read.
    """
    index = _index(folder)
    if index is not None:
        index = {k: v for k, v in index.items() if k not in unused and (only is None or k in only)}
    found = loaded_files(folder, index, variant)
    try:
        lines = [f"{name}\t{file_sha256(path)}\n" for name, path in found]
    except OSError as error:
        what = f"{error.filename or folder}: {error.strerror or error}"
        raise MissingWeights(f"weights that cannot be read: {what}") from None
    if not lines:
        raise MissingWeights(f"no weights in {folder}: the folder is empty")
    settings = json.dumps(index, sort_keys=True) if index is not None else ""
    return hashlib.sha256("".join([settings, "\n", *lines]).encode()).hexdigest()


def loaded_files(
    folder: Path, index: Mapping[str, Any] | None, variant: str = ""
) -> Iterator[tuple[str, Path]]:
    """Name and place of each file that loading reads, sorted by name; links are followed.

    Args:
        folder: the pipeline's.
        index: the parts that are loaded, as `model_index.json` has them; None for all files.
        variant: see `Source`.
    """
    if index is None:
        yield from _files(folder)
        return
    for part in sorted(name for name, kind in index.items() if isinstance(kind, list)):
        inside = dict(_files(folder / part, f"{part}/"))
        chosen = inside
        if f"{part}/config.json" in inside:
            chosen = _of_network(folder / part, inside, variant)
        yield from chosen.items()


def _index(folder: Path) -> dict[str, Any] | None:
    """What `model_index.json` says of parts and settings, None where there is none.

    Raises:
        MissingWeights: it is no such file.
    """
    path = folder / INDEX
    if not path.is_file():
        return None
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        return {k: v for k, v in read.items() if k[:1] != "_" and v not in ([None, None], None)}
    except (OSError, ValueError, AttributeError):
        raise MissingWeights(f"{path}: cannot be read as a pipeline's index") from None


def _of_network(place: Path, inside: Mapping[str, Path], variant: str) -> dict[str, Path]:
    """Configuration and the weights that are chosen; all files where none are, which is refused."""
    found = weight_files(place)
    chosen = found.chosen(variant)
    if chosen is None:
        return dict(inside)
    names = {"config.json", found.found[chosen].name, *_shards(found.found[chosen])}
    wanted = {f"{place.name}/{name}" for name in names}
    return {n: p for n, p in inside.items() if n in wanted or n.endswith(".py")}


def _shards(file: Path) -> set[str]:
    """Names of the files that an index of weights speaks of; none for another file."""
    if file.suffix != ".json":
        return set()
    try:
        return set(json.loads(file.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        raise MissingWeights(f"{file}: cannot be read as an index of weights") from None


def _files(
    folder: Path, prefix: str = "", above: tuple[Path, ...] = ()
) -> Iterator[tuple[str, Path]]:
    """Files of a folder and its folders, linked ones too; hidden ones and pictures aside."""
    real = folder.resolve()
    if real in above or not folder.is_dir():
        return  # a link that leads back up would never end
    for path in sorted(folder.iterdir()):
        name = prefix + path.name
        if path.name.startswith(".") or path.name == CARD:
            continue
        if path.is_dir():
            yield from _files(path, f"{name}/", (*above, real))
        elif path.is_file() and path.suffix.lower() not in _NEVER_READ:
            yield name, path
