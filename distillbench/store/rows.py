"""Rows of a sample set that stay on disk: a metric that streams never has the set in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any

from distillbench.core.lazy import torch
from distillbench.errors import ArtifactError

__all__ = ["FrameRows", "StoredRows"]

NAME = "samples"


class Rows:
    """What stands for `Samples.data` of a streaming metric: rows that are read when asked for.

    It has of a tensor what such a metric may use: len, shape, ndim, dtype, iteration, and
    `rows[...]` with a number, a slice or a list of numbers, which gives a tensor of its own.

    Attributes:
        shape: of all rows together.
        dtype: of every row.
    """

    shape: torch.Size
    dtype: torch.dtype

    @property
    def ndim(self) -> int:
        """Dimensions, that of the rows among them."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[torch.Tensor]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, index: int | slice | Sequence[int] | torch.Tensor) -> torch.Tensor:
        if isinstance(index, int):
            number = range(len(self))[index]
            return self.read(number, number + 1)[0]
        if isinstance(index, slice):
            wanted = range(len(self))[index]
            if wanted.step == 1:
                return self.read(wanted.start, max(wanted.start, wanted.stop))
            index = wanted
        if isinstance(index, tuple) or getattr(index, "dtype", None) == torch.bool:
            raise TypeError("rows on disk take a number, a slice or a list of numbers")
        return torch.stack([self[int(i)] for i in index])

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Rows `start` to `stop`, in memory. Raises ArtifactError: they cannot be read."""
        raise NotImplementedError


class StoredRows(Rows):
    """The rows of shards, one after another.

    Raises:
        ArtifactError: there are none, one is not readable, or they are of several kinds.
    """

    def __init__(self, shards: Sequence[Path]) -> None:
        self.shards = list(shards)
        heads = [_head(path) for path in self.shards]
        if not heads:
            raise ArtifactError("there are none")
        for path, (shape, dtype) in zip(self.shards, heads, strict=True):
            if (shape[1:], dtype) != (heads[0][0][1:], heads[0][1]):
                raise ArtifactError(f"{path.name} holds samples of another shape or type")
        self.bounds = list(accumulate((shape[0] for shape, _ in heads), initial=0))
        self.shape, self.dtype = torch.Size((self.bounds[-1], *heads[0][0][1:])), heads[0][1]

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Rows `start` to `stop`, from as many shards as they lie in."""
        kept = torch.empty((stop - start, *self.shape[1:]), dtype=self.dtype)
        for path, first, last in zip(self.shards, self.bounds, self.bounds[1:]):
            low, high = max(start, first), min(stop, last)
            if low < high:
                with _opened(path) as shard:
                    kept[low - start : high - start] = shard[low - first : high - first]
        return kept

    def flatten(self, start: int, end: int) -> FrameRows:
        """Every frame of videos as a row of its own, as `Tensor.flatten(0, 1)` gives them."""
        if (start, end, self.ndim) != (0, 1, 5):
            raise TypeError("of rows on disk, videos alone flatten, into their frames")
        return FrameRows(self)


class FrameRows(Rows):
    """The frames of videos as rows."""

    def __init__(self, videos: StoredRows) -> None:
        self.videos, self.each = videos, videos.shape[1]
        self.dtype = videos.dtype
        self.shape = torch.Size((len(videos) * self.each, *videos.shape[2:]))

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Frames `start` to `stop`; the videos that they are of are read."""
        first = start // self.each
        whole = self.videos.read(first, -(-stop // self.each)).flatten(0, 1)
        return whole[start - first * self.each : stop - first * self.each]


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The tensor of a shard, open for slices. Raises ArtifactError: it is not to be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            yield file.get_slice(NAME)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ArtifactError(f"{path.name}: {' '.join(str(error).split())}") from None


def _head(path: Path) -> tuple[tuple[int, ...], torch.dtype]:
    """Shape and type of what a shard holds."""
    with _opened(path) as shard:
        return tuple(shard.get_shape()), shard[:1].dtype
