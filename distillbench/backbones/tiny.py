"""The shipped teacher of the embedded picture world: a Stable Diffusion of two million weights."""

from __future__ import annotations

from collections.abc import Sequence

from distillbench.api.backbone import Backbone
from distillbench.api.published import Published
from distillbench.backbones._pipeline import NetworkConfig
from distillbench.backbones.sd import Sd, SdConfig
from distillbench.core.lazy import torch
from distillbench.files.places import Need
from distillbench.files.source import Source
from distillbench.world import weights

__all__ = ["TinySd", "TinySdConfig"]

WEIGHTS = "tiny-sd"


class TinySdConfig(NetworkConfig):
    """The weights are part of the package."""


class TinySd(Sd):
    """32 x 32 images of shapes in four styles, and as many real ones as training asks for."""

    Config = TinySdConfig
    name = "tiny-sd"
    train_prompts = "world-train"
    eval_prompts = "world-eval"

    def source(self) -> Source:
        """The folder inside the package."""
        return Source(str(weights.folder(WEIGHTS)))

    def revision(self) -> str:
        """The sha256 that the weights' card states."""
        return weights.revision(WEIGHTS)

    def check_prompts(self, prompts: Sequence[str], *, latents: bool) -> None:
        """See `Backbone.check_prompts`: real latents are of scenes that prompts describe."""
        from distillbench.world.captions import scene_of

        for prompt in prompts if latents else ():
            scene_of(prompt)

    def requirements(self) -> tuple[Need, ...]:
        """Nothing: the package brings the weights."""
        return ()

    def with_pipeline(self, published: Published, guidance_embed: float | None) -> Backbone:
        """See `Backbone.with_pipeline`: any Stable Diffusion."""
        return Sd(SdConfig(model="")).with_pipeline(published, guidance_embed)

    def _shape(self) -> tuple[int, ...]:
        return self._sized(None)

    def training_latents(self, prompts: Sequence[str], rng: torch.Generator) -> torch.Tensor:
        """Latents of fresh renders of the prompts' scenes."""
        from distillbench.world.data import renders_of

        seed = int(torch.randint(2**31 - 1, (), generator=rng))
        return self.encode_images(torch.from_numpy(renders_of(prompts, seed=seed)))
