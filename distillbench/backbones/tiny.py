"""The shipped teachers of the embedded picture world: small true pipelines of each family."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from distillbench.backbones._pipeline import NetworkConfig
from distillbench.backbones._shipped import ShippedBackbone
from distillbench.backbones.pixart import Pixart
from distillbench.backbones.sd import Sd
from distillbench.backbones.sd3 import Sd3
from distillbench.backbones.sdxl import Sdxl

__all__ = ["TinyPixart", "TinySd", "TinySd3", "TinySd3Config", "TinySdConfig", "TinySdxl"]


class TinySdConfig(NetworkConfig):
    """The weights are part of the package."""

    resolution: ClassVar[None] = None


class TinySd(ShippedBackbone, Sd):
    """A UNet with one text tower; predicts eps."""

    Config = TinySdConfig
    name = "tiny-sd"


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
