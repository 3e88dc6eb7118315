"""Latents of a folder's pictures, each picture encoded alone and once, kept on disk by content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from distillbench.core.noise import generator
from distillbench.files.places import cache_root

if TYPE_CHECKING:
    from distillbench.api.backbone import Backbone

__all__ = ["Latents", "Pictures", "Rows"]

MEMORY_BYTES = 1 << 30
SEAL = 16
Tell = Callable[[str], None]


class Pictures(Protocol):
    """Pictures by number; what they are apart from their files is part of what is kept."""

    size: tuple[int, int] | None
    background: str

    @property
    def resize(self) -> str:
        """How they come to their size."""

    def read(self, indices: Sequence[int]) -> torch.Tensor:
        """uint8 (B, H, W, 3)."""


class Rows:
    """A file of equally long rows, each behind a digest of what it is of and what it holds.

    A row that was never written, was cut, altered, or is of something else, is None. Several
    processes may write the same file: a row's content depends on its number alone.

    Args:
        path: the file; None keeps rows in memory alone.
        identity: what all its rows are of.
        size: bytes of a row.
        tell: gets one line where the file cannot be written; rows are then kept in memory.
    """

    def __init__(self, path: Path | None, identity: str, size: int, tell: Tell) -> None:
        self._path, self._identity, self._size, self._tell = path, identity.encode(), size, tell
        self._rows: dict[int, bytes] = {}
        self._file = -1
        self._writes = path is not None
        if path is not None:
            self._open(path)

    def _open(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            self._give_up(error)
            if path.is_file() and os.access(path, os.R_OK):
                self._file = os.open(path, os.O_RDONLY)

    def _give_up(self, error: OSError) -> None:
        if self._writes:
            self._writes = False
            self._tell(
                f"latents are not kept on disk: {self._path}: {error.strerror}; pictures are "
                f"encoded again where they do not fit {MEMORY_BYTES >> 20} MiB of memory"
            )

    def get(self, index: int) -> bytes | None:
        """A row."""
        if index in self._rows:
            return self._rows[index]
        if self._file < 0:
            return None
        found = os.pread(self._file, SEAL + self._size, index * (SEAL + self._size))
        payload = found[SEAL:]
        if len(payload) < self._size or found[:SEAL] != self._seal(index, payload):
            return None
        self._remember(index, payload)
        return payload

    def put(self, index: int, payload: bytes) -> None:
        """Keep a row."""
        self._remember(index, payload)
        if not self._writes:
            return
        row = self._seal(index, payload) + payload
        try:
            written = os.pwrite(self._file, row, index * len(row))
            if written < len(row):  # the rest says why
                os.pwrite(self._file, row[written:], index * len(row) + written)
        except OSError as error:
            self._give_up(error)

    def keeps(self, count: int) -> bool:
        """Whether so many rows are found again, on disk or in memory."""
        return self._writes or count * self._size <= MEMORY_BYTES

    def _remember(self, index: int, payload: bytes) -> None:
        if (len(self._rows) + 1) * self._size <= MEMORY_BYTES:
            self._rows[index] = payload

    def _seal(self, index: int, payload: bytes) -> bytes:
        about = b"%b %d\n" % (self._identity, index)
        return hashlib.blake2b(about + payload, digest_size=SEAL).digest()

    def __del__(self) -> None:
        if getattr(self, "_file", -1) >= 0:
            os.close(self._file)


class Latents:
    """Latents (B, C, h, w) of pictures by their numbers.

    Args:
        backbone: a loaded backbone, whose autoencoder is read.
        images: the pictures.
        content: identity of the pictures with their captions; "" keeps nothing on disk.
        sample: draw from the autoencoder's posterior; else its mode.
        flip: mirror every other picture, as drawn.
        tell: gets a line for the user.
    """

    def __init__(
        self, backbone: Backbone, images: Pictures, *, content: str, sample: bool, flip: bool,
        tell: Tell,
    ) -> None:  # fmt: skip
        self._backbone, self._images, self._sample, self._flip = backbone, images, sample, flip
        self._shape = ((2 if sample else 1), *backbone.latent_shape)
        device = getattr(backbone, "device", "cpu")
        told: list[Any] = [
            content, backbone.latents_identity(), images.size, images.resize, images.background,
            self._shape, flip, torch.device(device).type,
            *(f"{name} {version(name)}" for name in ("torch", "diffusers", "pillow")),
        ]  # fmt: skip
        identity = hashlib.sha256(repr(told).encode()).hexdigest()
        path = cache_root() / "latents" / f"{identity[:20]}.rows" if content else None
        size = 4 * int(torch.Size(self._shape).numel())
        self._rows = Rows(path, identity, size, tell)

    def batch(self, indices: Sequence[int], key: tuple[int | str, ...]) -> torch.Tensor:
        """Latents of these pictures, float32 on the CPU; `key` decides what is drawn.

        Raises:
            BadInput: a file that is no picture.
        """
        flips = [0] * len(indices)
        if self._flip:
            draw = torch.randint(2, (len(indices),), generator=generator(*key, "flip"))
            flips = draw.tolist()
        rows = torch.stack([self._row(i, f) for i, f in zip(indices, flips, strict=True)])
        if not self._sample:
            return rows[:, 0]
        noise = torch.randn(rows[:, 0].shape, generator=generator(*key, "posterior"))
        return rows[:, 0] + rows[:, 1] * noise

    def fill(self, count: int, tick: Callable[[], None]) -> bool:
        """Encode the pictures 0 to `count` - 1 ahead; whether all of them are found again.

        Args:
            tick: called after each.
        """
        for index in range(count):
            for flip in (0, 1) if self._flip else (0,):
                self._row(index, flip)
                tick()
        return self._rows.keeps((1 + self._flip) * count)

    def _row(self, index: int, flip: int) -> torch.Tensor:
        number = 2 * index + flip if self._flip else index
        payload = self._rows.get(number)
        if payload is None:
            payload = self._encoded(index, flip).numpy().tobytes()
            self._rows.put(number, payload)
        return torch.frombuffer(bytearray(payload), dtype=torch.float32).reshape(self._shape)

    def _encoded(self, index: int, flip: int) -> torch.Tensor:
        """The row of a picture; alone, as sums may depend on the batch that they are made in."""
        picture = self._images.read([index])
        if flip:
            picture = picture.flip(2)
        if self._sample:
            made = torch.stack(self._backbone.encode_posterior(picture), 1)
        else:
            made = self._backbone.encode_images(picture)[:, None]
        return made[0].float().cpu().contiguous()
