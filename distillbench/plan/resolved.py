"""A method on a backbone, with all that decides what is sampled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distillbench.api.fields import split
from distillbench.plan.used import UsedBackbone
from distillbench.specs.stages import MethodSpec

if TYPE_CHECKING:
    from distillbench.api.backbone import Backbone
    from distillbench.api.method import Method
    from distillbench.api.sampler import Sampler

__all__ = ["Resolved"]


@dataclass(frozen=True)
class Resolved:
    """A method on a backbone with one sampling recipe.

    Attributes:
        method_spec: what decides a training of the method. Where there is none, all that its
            settings do is in the recipe.
        on: the backbone its student is carried over to for sampling, None for its own.
        onto: label of the row of the same backbone whose trained net takes the teacher's place
            there; "" for none.
    """

    used: UsedBackbone
    method: Method
    method_spec: MethodSpec
    recipe: Sampler
    on: UsedBackbone | None = None
    onto: str = ""

    @property
    def shown(self) -> UsedBackbone:
        """The backbone it is sampled on, and stands for."""
        return self.on or self.used

    @property
    def sampled(self) -> Backbone:
        """What is sampled: a pipeline that the method brings, or the backbone that is shown."""
        own = self.method.backbone
        return own if own is not self.method.base else self.shown.backbone

    @property
    def alias(self) -> str:
        """Of that."""
        return self.shown.alias

    @property
    def settings(self) -> dict[str, Mapping[str, Any]]:
        """What a stage needs beside its spec to build the plug-ins; see `fields`."""
        config = self.method.config
        own = self.trains or self.method.published() is not None
        marked = split(config).marked if own else config.model_dump(mode="json")
        return {"backbone": self.used.settings, "method": marked}

    @property
    def trains(self) -> bool:
        """Whether the method has nets to train."""
        return bool(self.method.nets())

    @property
    def guidance_scale(self) -> float:
        """The scale in effect: the embedded one for nets that embed it."""
        embedded = self.recipe.embed_scale
        return self.recipe.guidance_scale if embedded is None else embedded
