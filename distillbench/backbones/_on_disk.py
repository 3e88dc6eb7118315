"""A pipeline's files: whether they are on this disk, and how large it is; without torch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from distillbench.api.backbone import Backbone, Footprint
from distillbench.backbones._folder import INDEX, without_index
from distillbench.backbones._tokens import counter
from distillbench.files.places import Need
from distillbench.files.source import Source

__all__ = ["BackboneOnDisk", "local_folder", "settings_of"]

WEIGHTS = (".safetensors", ".bin")
HEADER_BYTES = 100 << 20


class BackboneOnDisk(Backbone):
    """Base of the backbones whose weights lie in a folder, or in the hub's cache of this machine.

    Attributes:
        network: which of the pipeline's parts denoises.
        load_options: further arguments of `from_pretrained`; the parts it sets are not read.
        published: bytes, about, and licence of the weights that `model` names by default.
    """

    network: ClassVar[str] = "unet"
    load_options: ClassVar[Mapping[str, Any]] = {}
    published: ClassVar[tuple[int, str]] = (0, "")

    def source(self) -> Source:
        """Where the weights come from."""
        config: Any = self.config
        return Source(config.model, config.revision, getattr(config, "variant", ""))

    def requirements(self) -> tuple[Need, ...]:
        """The pipeline's folder, or the hub's snapshot of it on this disk."""
        source = self.source()
        own = source.model == self.Config.model_fields["model"].default
        facts = self.published if own else (0, "")
        return (_need(source, self.load_options, *facts),)

    def cut_prompts(self, prompts: Sequence[str]) -> int:
        """By the encoder that reads most of a prompt; 0 where its tokenizer is not known."""
        folder = local_folder(self.source())
        lengths = self._text_lengths(folder) if folder else {}
        name = max(lengths, key=lambda part: lengths[part], default="")
        count = counter(folder / name) if folder and name else None
        return sum(n > lengths[name] for n in count(prompts)) if count else 0

    def _text_lengths(self, folder: Path) -> dict[str, int]:
        """Folder of each tokenizer -> tokens of a prompt that its encoder reads."""
        length = getattr(self.config, "text_length", None)
        if length:
            last = sorted(p.name for p in folder.glob("tokenizer*") if p.is_dir())[-1:]
            return dict.fromkeys(last, int(length))
        found = settings_of(folder, "tokenizer", "tokenizer_config.json").get("model_max_length")
        return {"tokenizer": found} if isinstance(found, int) else {}

    def footprint(self) -> Footprint:
        """By the files on this disk; zeros without them."""
        folder = local_folder(self.source())
        if folder is None:
            return Footprint()
        size = self._sample_size(folder)
        count = 3 * math.prod(size) * self._frames()
        return Footprint(_parameters(folder / self.network), count, size)

    def _frames(self) -> int:
        """Of one decoded sample."""
        return 1

    def _sample_size(self, folder: Path) -> tuple[int, int]:
        """Height and width in pixels of one decoded image."""
        side = getattr(self.config, "resolution", None)
        if side:
            return (side[0], side[1]) if isinstance(side, tuple) else (side, side)
        levels = settings_of(folder, "vae").get("block_out_channels") or [0]
        size = settings_of(folder, self.network).get("sample_size") or 0
        height, width = size if isinstance(size, list) else (size, size)
        pixels = 2 ** (len(levels) - 1)
        return (int(height * pixels), int(width * pixels))


def local_folder(source: Source) -> Path | None:
    """The folder a source names, or the hub's snapshot of it on this disk; None for neither.

    Raises:
        MissingWeights: as `Source.folder`.
    """
    folder = source.folder
    return source.snapshot if folder is None else folder


def _need(source: Source, without: Iterable[str], size: int, terms: str) -> Need:
    """The weights of a pipeline, `without` the parts that are never loaded."""
    folder = local_folder(source)
    if source.folder is None:
        at = f" --revision {source.commit}" if source.commit else ""
        fix = f"run: hf download {source.model}{at}"
    else:
        fix = "complete the folder"
    if folder is None:
        return Need("weights", str(source), "not on this disk", fix, size, terms)
    gaps = ", ".join(_gaps(folder, set(without)))
    problem = f"{folder} is not whole: {gaps}" if gaps else ""
    return Need("weights", str(source), problem, fix if gaps else "", size, terms)


def _gaps(folder: Path, without: set[str]) -> list[str]:
    """What the pipeline's index names and the folder does not hold."""
    if not (folder / INDEX).is_file():
        return [without_index(folder)]
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return [f"no readable {INDEX}"]
    found = []
    for name, kind in index.items() if isinstance(index, dict) else ():
        if not (isinstance(kind, list) and all(kind)) or name in without:
            continue
        files = [p.suffix for p in _files(folder / name)]
        network = name in ("unet", "transformer", "vae") or name.startswith("text_encoder")
        if not files or (network and not set(WEIGHTS) & set(files)):
            found.append(f"no {'weights in ' if files else 'folder '}{name}")
    return found


def _files(folder: Path) -> list[Path]:
    # A snapshot is a folder of links, which an interrupted download leaves dangling.
    return [p for p in folder.iterdir() if p.is_file()] if folder.is_dir() else []


def settings_of(folder: Path, part: str, file: str = "config.json") -> dict[str, Any]:
    """The configuration of a part, empty where there is none."""
    with suppress(OSError, ValueError):
        read = json.loads((folder / part / file).read_text(encoding="utf-8"))
        return read if isinstance(read, dict) else {}
    return {}


def _parameters(folder: Path) -> int:
    """Number of parameters of a network by the headers of its safetensors; 0 if it has none."""
    return sum(_in_header(p) for p in _files(folder) if p.suffix == ".safetensors")


def _in_header(path: Path) -> int:
    with suppress(OSError, ValueError, AttributeError, KeyError, TypeError):
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length < HEADER_BYTES else {}
        return sum(math.prod(t["shape"]) for n, t in header.items() if n != "__metadata__")
    return 0
