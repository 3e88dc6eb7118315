"""The shipped teachers of the embedded picture world: small true pipelines of each family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import AfterValidator, Field, PositiveInt

from distillbench.api.backbone import Backbone
from distillbench.api.published import Published
from distillbench.backbones._pipeline import NetworkConfig
from distillbench.backbones._shipped import ShippedBackbone
from distillbench.backbones.cogvideox import Cogvideox, whole_clip
from distillbench.backbones.pixart import Pixart
from distillbench.backbones.sd import Sd, SdConfig
from distillbench.backbones.sd3 import Sd3
from distillbench.backbones.sdxl import Sdxl

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

__all__ = [
    "TinyCogvideox", "TinyCogvideoxConfig", "TinyPixart", "TinyPixartConfig", "TinySd", "TinySd3",
    "TinySd3Config", "TinySdConfig", "TinySdxl",
]  # fmt: skip


class TinySdConfig(NetworkConfig):
    """The weights are part of the package."""

    resolution: ClassVar[None] = None


class TinySd(ShippedBackbone, Sd):
    """A UNet with one text tower; predicts eps."""

    Config = TinySdConfig
    name = "tiny-sd"

    def with_pipeline(self, published: Published, guidance_embed: float | None) -> Backbone:
        """See `Backbone.with_pipeline`: any Stable Diffusion."""
        return Sd(SdConfig(model="")).with_pipeline(published, guidance_embed)


class TinySdxl(ShippedBackbone, Sdxl):
    """A UNet with two text towers, a pooled vector and size conditions; predicts eps."""

    Config = TinySdConfig
    name = "tiny-sdxl"


class TinyPixartConfig(NetworkConfig):
    """The weights are part of the package."""

    text_length: ClassVar[int] = 20


class TinyPixart(ShippedBackbone, Pixart):
    """A diffusion transformer with T5 text; predicts eps."""

    Config = TinyPixartConfig
    name = "tiny-pixart"


class TinySd3Config(NetworkConfig):
    """The weights are part of the package.

    Attributes:
        shift: g of S(u) = g u / (1 + (g - 1) u), which spaces times.
    """

    resolution: ClassVar[None] = None
    text_length: ClassVar[int] = 20
    shift: float = Field(3.0, ge=1)


class TinySd3(ShippedBackbone, Sd3):
    """A transformer over text and image together, trained by flow matching with shift 3."""

    Config = TinySd3Config
    name = "tiny-sd3"


class TinyCogvideoxConfig(NetworkConfig):
    """The weights are part of the package.

    Attributes:
        frames: of the decoded clip, 8 k + 1, as the decoder upsamples time; the network was trained
            on clips of 9.
        node_shift: g of S(u) = g u / (1 + (g - 1) u), which spaces a student's input times.
    """

    height: ClassVar[int] = 32
    width: ClassVar[int] = 32
    frames: Annotated[PositiveInt, AfterValidator(whole_clip)] = 9
    node_shift: float = Field(2.0, ge=1)


class TinyCogvideox(ShippedBackbone, Cogvideox):
    """A transformer over text and clip; predicts v, its last time has no signal."""

    Config = TinyCogvideoxConfig
    name = "tiny-cogvideox"
    train_prompts = "world-video-train"
    eval_prompts = "world-video-eval"

    def _real(self, prompts: Sequence[str], seed: int) -> NDArray[np.uint8]:
        """One real clip a prompt."""
        from distillbench.world.clips import clips_of

        config: Any = self.config
        return clips_of(prompts, seed=seed, frames=config.frames)

    def _latents_of(self, real: torch.Tensor) -> torch.Tensor:
        codec: Any = self.codec  # that of clips
        latents: torch.Tensor = codec.encode(real)
        return latents
