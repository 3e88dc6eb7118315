"""What one process keeps of the sample sets it scores, so that no picture is worked on twice."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from distillbench.api.metric import Samples
from distillbench.score.precision import current
from distillbench.score.preprocess import cut_square
from distillbench.score.progress import ahead

__all__ = ["Kept", "cropped"]

FEATURES = 2**28  # bytes of one network
CROPS = 2**29  # bytes of all


class Kept:
    """Tensors by the content key of a sample set, the latest of at most `limit` bytes together."""

    def __init__(self, limit: int = FEATURES) -> None:
        self.limit = limit
        self.values: dict[str, Tensor] = {}

    def get(self, key: str, make: Callable[[], Tensor]) -> Tensor:
        """That of `key`, made where it is not kept; of a set without a key always.

        What was made in another precision is another thing.
        """
        if not key:
            return make()
        key = key if current() == "float32" else f"{key} {current()}"
        found = self.values.pop(key) if key in self.values else make()
        self.values[key] = found  # the latest is last
        while len(self.values) > 1 and sum(v.nbytes for v in self.values.values()) > self.limit:
            del self.values[next(iter(self.values))]
        return found


_crops = Kept(CROPS)


def cropped(samples: Samples, size: int) -> Tensor:
    """The pictures as OpenAI's rule cuts them, uint8 (n, size, size, 3), for all scorers at once.

    `crop_square` leaves such pictures as they are. Those of a set without a key, or of one whose
    squares are too many to keep, come back as they were.
    """
    if not samples.key or len(samples.data) * 3 * size**2 > CROPS:
        return samples.data

    def cut() -> Tensor:
        squares = ahead(lambda part: cut_square(samples.data[part], size), len(samples.data))
        return torch.cat([square for _, square in squares])

    return _crops.get(f"{samples.key} {size}", cut)
