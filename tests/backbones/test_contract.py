"""The contract of backbones, on every one that can be loaded here."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import pytest

from distillbench.api import registry
from distillbench.api.backbone import Backbone
from distillbench.testing.backbone import BackboneContract
from distillbench.world import weights

PROMPTS = ("a red car", "blue boat")


class OfFamily(BackboneContract):
    """A family on a random checkpoint."""

    prompts = PROMPTS
    family: ClassVar[str]

    @pytest.fixture(scope="class")
    def backbone(self, build: Callable[..., Backbone]) -> Backbone:
        return build(self.family)


class TestSd(OfFamily):
    family = "sd"


class TestSdxl(OfFamily):
    family = "sdxl"


class TestSd3(OfFamily):
    family = "sd3"


class TestPixart(OfFamily):
    family = "pixart"


class TestCogvideox(OfFamily):
    family = "cogvideox"


class TestGmm(BackboneContract):
    prompts = ("condition 0", "condition 5")
    starts_as_teacher = False
    world: ClassVar[str] = "gmm"

    @pytest.fixture(scope="class")
    def backbone(self) -> Backbone:
        backbone = registry.build_backbone(self.world, {})
        backbone.load()
        return backbone


class TestGmmFlow(TestGmm):
    world = "gmm-flow"


class OfWorld(BackboneContract):
    """A shipped teacher of the picture world."""

    prompts = PROMPTS
    world: ClassVar[str]

    @pytest.fixture(scope="class")
    def backbone(self) -> Backbone:
        if self.world not in weights.available():
            pytest.skip("its weights are not made yet")
        backbone = registry.build_backbone(self.world, {})
        backbone.load()
        return backbone


class TestTinySd(OfWorld):
    world = "tiny-sd"


class TestTinySdxl(OfWorld):
    world = "tiny-sdxl"


class TestTinySd3(OfWorld):
    world = "tiny-sd3"


class TestTinyPixart(OfWorld):
    world = "tiny-pixart"


class TestTinyCogvideox(OfWorld):
    world = "tiny-cogvideox"


def test_every_registered_backbone_has_its_contract_tested_here() -> None:
    """A new family needs a class above."""
    tested = {
        getattr(cls, "family", name.removeprefix("Test").lower())
        for name, cls in globals().items()
        if name.startswith("Test")
    }
    assert {name.replace("-", "") for name in registry.BACKBONES.names()} == tested
