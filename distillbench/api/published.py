"""Weights that others trained: where they lie, which bytes they are, what they are (no torch)."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from distillbench.errors import BadInput, MissingWeights
from distillbench.files.hashes import file_sha256
from distillbench.files.places import Need, cache_root, shipped_root
from distillbench.files.source import content_hash

__all__ = ["Published", "WeightsKind"]

WeightsKind = Literal["lora", "network", "delta", "pipeline"]
_HUB = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?::(?P<file>[^@]+))?(?:@(?P<revision>[\w./-]+))?")
_FILES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
LOCK = "checkpoints.lock"


@dataclass(frozen=True)
class Published:
    """One file or folder of weights.

    Attributes:
        weights: a path, `owner/name:file@revision` of the hub, or the name of weights that the
            project ships.
        kind: "lora"; "network", a whole denoiser; "delta", a whole denoiser minus its base;
            "pipeline", a folder with text encoder and decoder of its own.
        scale: multiplies a lora or a delta.
        prediction: what the network puts out; "" is what the backbone's does.
        sha256: of the file, or `content_hash` of the folder; "" where it is not known.
        terms: licence, and whether the hub asks to accept it first.
        variant: of the weight files of a pipeline; "" is the plain files, or the only ones.
    """

    weights: str
    kind: WeightsKind = "lora"
    scale: float = 1.0
    prediction: str = ""
    sha256: str = ""
    terms: str = ""
    variant: str = ""

    @cached_property
    def path(self) -> Path | None:
        """The file or folder on this disk, None for a repository that is not.

        Raises:
            MissingWeights: it is written as a path and nothing is there.
        """
        if not self.weights:
            raise MissingWeights("no weights are named: set `weights`, or `recipe`")
        local, hub = Path(self.weights).expanduser(), self._hub
        if local.exists():
            return local
        if shipped := self._shipped:
            return shipped
        if hub is None:
            raise MissingWeights(f"no weights in {self.weights}: no such file or folder")
        return _in_hub_cache(hub["repo"], hub["revision"] or "main", hub["file"] or "")

    @property
    def _shipped(self) -> Path | None:
        """The folder of weights that the project ships; None for others."""
        plain = self.weights and Path(self.weights).name == self.weights
        return found if plain and (found := shipped_root() / self.weights).is_dir() else None

    @property
    def repository(self) -> str:
        """Its repository on the hub; the path itself for what is none."""
        return self._hub["repo"] if self._hub else self.weights

    @property
    def revision(self) -> str:
        """Branch, tag or commit that is named; "" for none."""
        return (self._hub["revision"] or "") if self._hub else ""

    @property
    def _hub(self) -> re.Match[str] | None:
        """The parts of a hub name; None for what can only be a path."""
        named = _HUB.fullmatch(self.weights)
        written = self.weights.startswith((".", "/", "~"))
        file = named is not None and not named["file"] and named["repo"].endswith(_FILES)
        return None if written or file else named

    def identity(self) -> str:
        """sha256 of the bytes, "missing:<weights>" where they are not on this disk.

        A hub file without a pinned sha256 is trusted on first use, and held to it afterwards.

        Raises:
            MissingWeights: as `path`, or they cannot be read.
            BadInput: other bytes than `sha256` says, or than were used before.
        """
        path = self.path
        if path is None:
            return f"missing:{self.weights}"
        try:
            found = self._hash(path)
        except OSError as error:
            raise MissingWeights(f"{path}: {error.strerror or error}") from None
        if self.sha256 and found != self.sha256.lower():
            raise BadInput(
                f"weights {self.weights}: sha256 is {found}, not {self.sha256}",
                hint="these are other bytes than the ones meant; fetch them again or mend `sha256`",
            )
        if not self.sha256 and self._hub is not None and path != Path(self.weights).expanduser():
            _same_as_before(self.weights, found)
        return found

    def _hash(self, path: Path) -> str:
        return content_hash(path, variant=self.variant) if path.is_dir() else file_sha256(path)

    def need(self) -> Need:
        """The weights as something a stage cannot do without, met or not."""
        try:
            there = self.path is not None
        except MissingWeights as error:
            return Need("weights", self.weights, error.line)
        hub = self._hub
        if there or hub is None:
            return Need("weights", self.weights)
        at = f" --revision {hub['revision']}" if hub["revision"] else ""
        whole = self.kind == "pipeline" or not hub["file"]
        file = hub["file"] or ""
        asked = file if file.endswith(_FILES) else f"--include '{file}/*'"
        what = hub["repo"] if whole else f"{hub['repo']} {asked}"
        gated = "; accept its licence on its page and run `hf auth login` before"
        fix = f"run: hf download {what}{at}" + (gated if "gated" in self.terms else "")
        return Need("weights", self.weights, "not on this disk", fix, 0, self.terms)


def _in_hub_cache(repo: str, revision: str, file: str) -> Path | None:
    """A file, folder or the whole of a repository in the hub's cache of this machine."""
    from huggingface_hub import constants

    root = Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"
    with suppress(OSError):
        revision = (root / "refs" / revision).read_text(encoding="utf-8").strip()
    found = root / "snapshots" / revision / file
    return found if found.exists() else None


def _same_as_before(name: str, sha256: str) -> None:
    """Note the first sha256 of a hub file in `<cache root>/checkpoints.lock`, and keep to it."""
    lock = cache_root() / LOCK
    known: dict[str, str] = {}
    with suppress(OSError):
        for line in lock.read_text(encoding="utf-8").splitlines():
            before, _, seen = line.rpartition("\t")
            known.setdefault(before, seen)
    if name not in known:
        with suppress(OSError):  # a read-only home only loses the memory of it
            lock.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(lock, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(f"{name}\t{sha256}\n")
    elif known[name] != sha256:
        raise BadInput(
            f"weights {name}: sha256 is {sha256}; it was {known[name]} when first used",
            hint=f"pin the one you mean with `sha256`, or take its line out of {lock}",
        )
