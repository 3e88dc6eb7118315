"""How a backbone's networks are computed and kept, beside what they compute."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Tuning", "repeated"]


class Tuning:
    """The part of `Backbone` that settings of speed and memory reach.

    Attributes:
        blocks: names of the lists in its networks whose modules repeat; `train.shard` gathers one
            at a time, and refuses backbones that name none. These modules and their networks are
            run by calling them, so that hooks on them see it.
    """

    blocks: ClassVar[tuple[str, ...]] = ()

    @property
    def frozen(self) -> nn.Module | None:
        """The network that the teacher is, or that adapters share; None for none. After `load`."""
        return None

    @property
    def tunes(self) -> bool:
        """Whether its networks take the settings of `tune`."""
        return type(self).tune is not Tuning.tune

    def tune(self, *, merge_adapters: bool = False, compile: bool = False) -> None:
        """How networks are computed from now on; called after `load` and before roles are made.

        Args:
            merge_adapters: an adapter's passes without gradient go through merged weights.
            compile: blocks are compiled.
        """

    def rest(self, *, text: bool, latents: bool) -> None:
        """Free the device of text encoders, or of the autoencoder, until they are called again."""


def repeated(network: nn.Module, blocks: Collection[str]) -> list[nn.Module]:
    """The modules in lists of these names."""
    named = network.named_modules()
    return [m for path, m in named if path.rpartition(".")[0].rpartition(".")[2] in blocks]
