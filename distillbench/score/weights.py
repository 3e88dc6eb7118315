"""Where scorers' checkpoints belong on disk, and their identity without reading a network.

A scorer's weights are "tiny" (shipped with the project), a name (a published checkpoint that the
user puts under `$DISTILLBENCH_DATA/weights/<name>/`), or the path of a folder or file.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from distillbench.errors import BadInput, MissingWeights
from distillbench.files.hashes import file_sha256
from distillbench.files.places import Need, data_root

__all__ = [
    "CHECKPOINTS",
    "INCEPTION_SIDE",
    "TINY_SIDE",
    "VGG_LEAST",
    "ClipSource",
    "ScorerFile",
    "ScorerResize",
    "arch_of",
    "clip_folder",
    "identity",
    "only_file",
    "tiny_misfit",
    "too_small",
]

ScorerResize = Literal["crop", "pad", "pad-legacy"]
CARD = "card.json"
VOCABULARY = "vocab.txt"
CHECKPOINTS = (".safetensors", ".pt", ".pth", ".bin")
INCEPTION_SIDE = 299
TINY_SIDE = 32
"""Pixels along a side of the pictures that the tiny feature nets take, which resize nothing."""
VGG_LEAST = 16
"""Pixels a side: VGG16 halves its pictures four times before its last features."""


def tiny_misfit(height: int, width: int) -> str:
    """What is wrong with samples of that size for the tiny net, which resizes nothing."""
    if (height, width) == (TINY_SIDE, TINY_SIDE):
        return ""
    takes = f"the tiny extractor takes samples of {TINY_SIDE}x{TINY_SIDE} pixels"
    return f"{takes}, not {width}x{height}; name the weights of an extractor that resizes"


def too_small(what: str, least: int, height: int, width: int) -> str:
    """What is wrong with samples of that size where `what` needs `least` pixels a side."""
    if min(height, width) >= least:
        return ""
    return f"{what} takes samples of {least} pixels a side or more, not {width}x{height}"


@dataclass(frozen=True)
class ScorerFile:
    """One published checkpoint file.

    Attributes:
        name: the name experiments use, and its folder under `weights/`.
        file: the file's published name.
        source: hub repository (with its commit where known) or project that publishes it.
        sha256: of the file, checked before use; "" where no trustworthy value is known.
        arch: network name in open_clip, where the file holds a CLIP.
        quickgelu: the network was trained with QuickGELU.
        size: bytes of the file, about.
        license: of the weights, as their project states it.
        beside: further files of the same source that must lie in the same folder.
    """

    name: str
    file: str
    source: str
    sha256: str = ""
    arch: str = ""
    quickgelu: bool = False
    size: int = 0
    license: str = ""
    beside: tuple[str, ...] = ()

    @property
    def revision(self) -> str:
        """Identity that enters content keys.

        The published sha256; where none is known that of the file, once it is on this disk.
        """
        path = data_root() / "weights" / self.name / self.file
        here = file_sha256(path) if not self.sha256 and path.is_file() else ""
        return f"{self.name}:{self.sha256 or here or f'{self.source}/{self.file}'}"

    def path(self) -> Path:
        """The file on this disk.

        Raises:
            MissingWeights: it is not there, or its sha256 is not the published one.
        """
        path = data_root() / "weights" / self.name / self.file
        if not path.is_file():
            known = f" (sha256 {self.sha256})" if self.sha256 else ""
            raise MissingWeights(
                f"weights {self.name!r} are not on this disk: {path}",
                hint=f"put {self.file} of {self.source} there{known}",
            )
        if self.sha256 and file_sha256(path) != self.sha256:
            raise MissingWeights(
                f"{path} is not {self.name!r}: its sha256 is {file_sha256(path)}",
                hint=f"replace it by {self.file} of {self.source} (sha256 {self.sha256})",
            )
        if lacking := [name for name in self.beside if not (path.parent / name).is_file()]:
            raise MissingWeights(
                f"weights {self.name!r} are not complete: no {path.parent / lacking[0]}",
                hint=f"put {lacking[0]} of {self.source} there",
            )
        return path

    def need(self) -> Need:
        """The file as something a run needs, with where to get it."""
        path = data_root() / "weights" / self.name / self.file
        try:
            self.path()
            problem = fix = ""
        except (MissingWeights, OSError) as error:
            there = path.exists()
            problem = str(error) if there else f"not on this disk: no file {path}"
            known = f" (sha256 {self.sha256})" if self.sha256 else ""
            files = " and ".join((self.file, *self.beside))
            fix = f"get {files} of {self.source}{known}"
        return Need("weights", self.name, problem, fix, self.size, self.license)

    def clip(self, resize: ScorerResize) -> ClipSource:
        """This checkpoint as a CLIP with its own architecture. Raises MissingWeights."""
        return ClipSource(self.arch, self.path(), resize, quickgelu=self.quickgelu)


@dataclass(frozen=True)
class ClipSource:
    """A CLIP to load.

    Attributes:
        arch: open_clip's name of the network, or the path of its JSON configuration.
        checkpoint: .safetensors, or .pt (a state dict, {"state_dict": ...}, or TorchScript).
        resize: how a picture becomes a square: "crop" as OpenAI does, "pad" as HPSv2 does;
            "pad-legacy" is HPSv2 under torchvision < 0.17, which resized without antialiasing.
        quickgelu: override of the configuration's activation; only ever switches it on.
    """

    arch: str
    checkpoint: Path
    resize: ScorerResize
    quickgelu: bool = False


def only_file(folder: Path, suffixes: tuple[str, ...]) -> Path:
    """The one file of `folder` with one of these suffixes, a quality card aside.

    Raises:
        MissingWeights: there is none.
        BadInput: there are several.
    """
    if not folder.is_dir():
        raise MissingWeights(f"no folder of weights at {folder}")
    found = sorted(p for p in folder.iterdir() if p.suffix in suffixes and p.name != CARD)
    if not found:
        raise MissingWeights(f"{folder} holds no file with suffix {' or '.join(suffixes)}")
    if len(found) > 1:
        names = ", ".join(p.name for p in found)
        raise BadInput(f"{folder} holds several candidates ({names}); keep one")
    return found[0]


def clip_folder(folder: Path, resize: ScorerResize) -> ClipSource:
    """The CLIP in a folder that holds one JSON configuration and one checkpoint."""
    config = only_file(folder, (".json",))
    return ClipSource(str(config), only_file(folder, CHECKPOINTS), resize)


def arch_of(path: Path) -> dict[str, Any]:
    """An open_clip network configuration: the file itself, or its `model_cfg`. Raises BadInput."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config = config.get("model_cfg", config) if isinstance(config, dict) else {}
    missing = {"embed_dim", "vision_cfg", "text_cfg"} - set(config)
    if missing:
        raise BadInput(
            f"{path} is no open_clip configuration: it lacks {', '.join(sorted(missing))}"
        )
    return dict(config)


def identity(path: Path) -> str:
    """Content hash of a file, or of the JSON and checkpoint files of a folder.

    What the files are called changes nothing: of each kind one is taken (`only_file`).

    Raises:
        MissingWeights: nothing is there.
    """
    if path.is_file():
        return file_sha256(path)
    if not path.is_dir():
        raise MissingWeights(f"no weights at {path}", hint="name a file or a folder that exists")
    suffixes = (".json", *CHECKPOINTS)
    files = sorted(
        p for p in path.iterdir()
        if (p.suffix in suffixes or p.name == VOCABULARY) and p.name != CARD
    )  # fmt: skip
    lines = "".join(sorted(f"{p.suffix} {file_sha256(p)}\n" for p in files))
    return hashlib.sha256(lines.encode()).hexdigest()
