"""Backbones whose files are held against what is honoured of them, at planning and at loading."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from distillbench.backbones import _fits
from distillbench.backbones._folder import Folder, read_folder
from distillbench.backbones._layouts import Layout
from distillbench.backbones._on_disk import BackboneOnDisk, local_folder
from distillbench.errors import DistillbenchError, MissingWeights
from distillbench.files.source import Source

__all__ = ["CheckedBackbone"]

SHOWN = 3


class CheckedBackbone(BackboneOnDisk):
    """Refuses weights whose settings would not be honoured.

    Attributes:
        layout: what the family's folder holds.
        learned_variance: whether the network may put out a variance beside its prediction.
    """

    layout: ClassVar[Layout]
    learned_variance: ClassVar[bool] = False

    def source(self) -> Source:
        """Where the weights come from.

        Raises:
            MissingWeights: it is a single file.
        """
        source = super().source()
        if Path(source.model).expanduser().is_file():
            pipeline = self.layout.pipelines[0]
            raise MissingWeights(
                f"{source.model} is a single file, which does not say how it is configured",
                hint=f"convert it once: diffusers.{pipeline}.from_single_file(FILE)"
                ".save_pretrained(FOLDER), and name the folder",
            )
        return source

    def problems(self) -> list[str]:
        """See `Backbone.problems`; nothing of a repository that is not on this disk."""
        try:
            path = local_folder(self.source())
        except DistillbenchError:
            return []  # `revision` says so
        return [] if path is None else self._read(path)[1]

    def _read(self, path: Path) -> tuple[Folder, list[str]]:
        folder = read_folder(path, self.layout, getattr(self.config, "variant", ""))
        return folder, folder.problems or list(self._misfits(folder))

    def checked(self, path: Path) -> Folder:
        """What a folder holds. Raises MissingWeights with the first of its problems."""
        folder, problems = self._read(path)
        if problems:
            more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
            raise MissingWeights(f"backbone {self.name}: {'; '.join(problems[:SHOWN])}{more}")
        return folder

    def _misfits(self, folder: Folder) -> Iterator[str]:
        """Parts that do not fit each other or the backbone's parameters."""
        yield from _fits.schedule(folder.configs["scheduler"])
        yield from _fits.autoencoder(folder.configs["vae"], self.layout)
        yield from _fits.network(folder, self.network, variance=self.learned_variance)
        yield from _fits.weights(folder, self.layout)
        yield from self._own_misfits(folder)

    def _own_misfits(self, folder: Folder) -> Iterator[str]:
        """Those of one family."""
        yield from ()

    def _size_misfits(self, folder: Folder) -> Iterator[str]:
        """A `resolution` must be made of whole cells; without, the network must say its size."""
        network, wanted = folder.configs[self.network], getattr(self.config, "resolution", None)
        cell = _fits.cell(folder.configs["vae"]) * network.get("patch_size", 1)
        if wanted is None:
            if network.get("sample_size") is None:
                yield f"{self.network}/config.json: sample_size is missing; set `resolution`"
            return
        for side in wanted if isinstance(wanted, tuple) else (wanted,):
            if side % cell:
                yield f"resolution: {side} is no multiple of {cell} pixels"
        cells = network.get("pos_embed_max_size")
        sides: Any = wanted if isinstance(wanted, tuple) else (wanted,)
        if cells is not None and max(sides) > cells * cell:
            yield f"resolution: at most {cells * cell} pixels, the network's positions end there"
