"""What the teachers share whose weights are part of the package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from distillbench.backbones._pipeline import PipelineBackbone
from distillbench.core.lazy import torch
from distillbench.files.places import Need
from distillbench.files.source import Source
from distillbench.world import weights

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ShippedBackbone"]


class ShippedBackbone(PipelineBackbone):
    """A teacher of the embedded picture world: 32 x 32, and as many real ones as training asks for.

    Its folder has its registered name.
    """

    train_prompts = "world-train"
    eval_prompts = "world-eval"

    def source(self) -> Source:
        """The folder inside the package."""
        return Source(str(weights.folder(self.name)))

    def revision(self) -> str:
        """The sha256 that the weights' card states."""
        return weights.revision(self.name)

    def check_prompts(self, prompts: Sequence[str], *, latents: bool) -> None:
        """See `Backbone.check_prompts`: real latents are of scenes that prompts describe.

        Without real latents any order of the world's words will do.
        """
        from distillbench.world.captions import check_words, scene_of

        for prompt in prompts:
            scene_of(prompt) if latents else check_words(prompt)

    def requirements(self) -> tuple[Need, ...]:
        """Nothing: the package brings the weights."""
        return ()

    def training_latents(self, prompts: Sequence[str], rng: torch.Generator) -> torch.Tensor:
        """Latents of fresh renders of the prompts' scenes."""
        seed = int(torch.randint(2**31 - 1, (), generator=rng))
        return self._latents_of(torch.from_numpy(self._real(prompts, seed)))

    def _latents_of(self, real: torch.Tensor) -> torch.Tensor:
        return self.encode_images(real)

    def _real(self, prompts: Sequence[str], seed: int) -> NDArray[np.uint8]:
        """One real picture a prompt."""
        from distillbench.world.data import renders_of

        return renders_of(prompts, seed=seed)
