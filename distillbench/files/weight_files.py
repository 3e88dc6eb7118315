"""Which weight files of a part are there, and from their headers whether they are its own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Tensors", "WeightFiles", "foreign", "tensors_of", "weight_files"]

_VARIANT = r"\w+(?:-(?!\d{5}-of-)\w+)*"  # fp16, v0-fix; not the number of a shard
_NAME = re.compile(
    r"(?:diffusion_pytorch_model|pytorch_model|model)"
    rf"(?:\.(?P<before>{_VARIANT}))?\.(?P<kind>safetensors|bin)(?P<index>\.index"
    rf"(?:\.(?P<after>{_VARIANT}))?\.json)?",
    re.ASCII,
)
HEADER_BYTES = 100 << 20
Tensors = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class WeightFiles:
    """The files of one part, by variant ("" for the plain ones).

    Attributes:
        found: variant -> the file to load: one file, or the index of several.
    """

    found: dict[str, Path]

    def chosen(self, variant: str) -> str | None:
        """The variant to load: the one asked for, else the plain files, else the only one.

        None where there are no weights, or several variants and none asked for.
        """
        for name in (variant, ""):
            if name in self.found:
                return name
        return next(iter(self.found)) if len(self.found) == 1 and not variant else None


def weight_files(folder: Path) -> WeightFiles:
    """What lies in the folder of a part; safetensors go before pickles, as in the libraries."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir(), key=lambda p: (".bin" in p.name, p.suffix != ".json")):
        match = _NAME.fullmatch(path.name)
        if match:
            found.setdefault(match["before"] or match["after"] or "", path)
    return WeightFiles(found)


def tensors_of(file: Path) -> Tensors:
    """Names and shapes from the headers of safetensors, empty for a pickle.

    Raises:
        ValueError: a file is missing, truncated or none of its format.
    """
    if file.suffix == ".bin":
        return {}
    if file.suffix != ".json":
        return dict(_header(file))
    try:
        places = json.loads(file.read_bytes())["weight_map"]
        shards = sorted(set(places.values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        raise ValueError(f"{file.name} is no index of weights") from None
    if missing := [name for name in shards if not (file.parent / name).is_file()]:
        raise ValueError(f"{file.name} names {missing[0]}, which is not there")
    if ".bin." in file.name:
        return {}
    return {name: shape for shard in shards for name, shape in _header(file.parent / shard)}


def _header(file: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    try:
        with file.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            if not 0 < size <= HEADER_BYTES:
                raise ValueError
            header: dict[str, Any] = json.loads(stream.read(size))
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        end = max(entry["data_offsets"][1] for entry in entries.values())
        whole = file.stat().st_size == 8 + size + end
        shapes = {name: tuple(entry["shape"]) for name, entry in entries.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{file.name} is no whole safetensors file") from None
    if not whole:
        raise ValueError(f"{file.name} is truncated: {8 + size + end} bytes are announced")
    yield from shapes.items()


def foreign(tensors: Tensors, wanted: Sequence[str]) -> str:
    """What is wrong with the names, with three of each side; "" where all `wanted` are there."""
    # Releases of transformers write the same text encoder with and without this word.
    plain = {name.removeprefix("text_model.") for name in tensors}
    missing = [name for name in wanted if name not in plain]
    if not tensors or not missing:
        return ""
    ours = {name.split(".")[0] for name in wanted}
    extra = sorted(name for name in plain if name.split(".")[0] not in ours) or sorted(plain)
    line = f"keys missing: {', '.join(missing[:3])}; keys not known: {', '.join(extra[:3])}"
    tops = {name.split(".")[0] for name in tensors}
    if len(tops) == 1 and (prefix := tops.pop()) not in ours:
        line += f"; all begin with {prefix + '.'!r}: save the network without its wrapper"
    return line
