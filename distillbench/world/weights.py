"""Where the shipped weights lie and which revision they are (no torch here)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from distillbench.errors import MissingWeights
from distillbench.files.hashes import file_sha256
from distillbench.files.places import shipped_root
from distillbench.files.source import CARD as _CARD

NAMES: Final = (
    "tiny-sd",
    "tiny-sdxl",
    "tiny-pixart",
    "tiny-sd3",
    "tiny-cogvideox",
    "tiny-clip",
    "tiny-hps",
    "tiny-aes",
    "tiny-inception",
    "tiny-oracle",
    "tiny-controlnet",
)
CARD: Final = _CARD
_UNLISTED: Final = (CARD, "card.md")


def root() -> Path:
    """The folder of all shipped weights."""
    return shipped_root()


def folder(name: str) -> Path:
    """The folder of one shipped model. Raises MissingWeights when it has no card."""
    path = root() / name
    if not (path / CARD).is_file():
        raise MissingWeights(
            f"no weights of {name!r} in {path}; shipped are {', '.join(available()) or 'none'}",
            hint="reinstall distillbench; a teacher that this version does not ship is made by "
            f"python -m distillbench.tiny_training train {name} --out made, then "
            f"eval {name} --weights made --jobs made/jobs; copy made/{name} there",
        )
    return path


def available() -> list[str]:
    """The names of the models whose folders have a card."""
    return sorted(path.parent.name for path in root().glob(f"*/{CARD}"))


def card(name: str) -> dict[str, Any]:
    """The quality card of a shipped model."""
    loaded: dict[str, Any] = json.loads((folder(name) / CARD).read_text(encoding="utf-8"))
    return loaded


def revision(name: str) -> str:
    """One sha256 over the files that its card lists, as they are on this disk.

    Raises:
        MissingWeights: one of them is not there.
    """
    here = folder(name)
    try:
        return revision_of({file: file_sha256(here / file) for file in card(name)["files"]})
    except OSError as error:
        raise MissingWeights(
            f"{error.filename}: {error.strerror}; reinstall distillbench"
        ) from None


def revision_of(files: dict[str, str]) -> str:
    """One sha256 over the names and the sha256 of all files of a model."""
    lines = "".join(f"{sha}  {name}\n" for name, sha in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def hash_files(path: Path) -> dict[str, str]:
    """File name -> sha256 for every file of a model's folder but its card; links are followed."""
    return {
        file.relative_to(path).as_posix(): file_sha256(file)
        for file in sorted(_files(path))
        if file.name not in _UNLISTED
    }


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():  # `rglob` passes over linked folders
        if path.is_dir():
            yield from _files(path)
        elif path.is_file():
            yield path
