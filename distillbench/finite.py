"""Values that are not finite are found where they arise; clamped to pixels they would be black."""

from __future__ import annotations

from distillbench.core.lazy import torch
from distillbench.errors import StageFailed

__all__ = ["NotFinite", "require_finite"]


class NotFinite(StageFailed):
    """A sample is NaN or infinite.

    Attributes:
        what: of what kind the values are.
        index: the first such sample of the batch.
    """

    def __init__(self, what: str, index: int) -> None:
        super().__init__(f"{what} of sample {index} are not finite")
        self.what, self.index = what, index


def require_finite(values: torch.Tensor, what: str) -> torch.Tensor:
    """The values themselves. Raises NotFinite with the first sample that has one that is not."""
    if values.is_meta:  # an outline has no numbers
        return values
    good = values.isfinite().flatten(1).all(1)
    if not bool(good.all()):
        raise NotFinite(what, int(good.logical_not().nonzero()[0]))
    return values
