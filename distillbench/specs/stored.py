"""What a store says of a stage, whatever version wrote it: its spec.json, read for what is known.

Stages are made from `specs.stages` alone, which is strict. Here nothing is required: results of
other versions are still listed and compared.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from distillbench.errors import ArtifactError
from distillbench.files.io import read_json

__all__ = ["Glance", "StoredStage", "Told"]


class _Loose(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Named(_Loose):
    """A plug-in; "" where the stage has none of the kind."""

    name: str = ""


class Prompted(_Loose):
    """Of samples: how many there are."""

    n: int = 0


class Settings(_Loose):
    """Of a training; `updates` were called steps once."""

    updates: int | None = Field(None, validation_alias=AliasChoices("updates", "steps"))
    stop: int | None = None


class Glance(_Loose):
    """What is shown of a spec.

    Attributes:
        identity: version of the keys it was made by; None for the first.
        train: the settings of a training, or the key of what was sampled.
        sampler: the recipe of samples.
        prompts: what they are of.
    """

    identity: int | None = None
    backbone: Named = Named()
    method: Named = Named()
    metric: Named = Named()
    seed: int | None = None
    train: Settings | str = Settings()
    sampler: dict[str, Any] | None = None
    prompts: Prompted = Prompted()

    @property
    def settings(self) -> Settings:
        """Those of a training; none of what is no training."""
        return Settings() if isinstance(self.train, str) else self.train

    @property
    def anchor(self) -> tuple[str | int | None, ...]:
        """What never changes between a stage and its predecessor."""
        return (self.backbone.name, self.method.name, self.metric.name, self.seed)


class Told(_Loose):
    """What it was told beside its spec, as far as it is of interest later; see `Runtime`."""

    experiment: str = ""
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    prompts: str = ""
    n: int = 0
    adapters: list[str] = Field(default_factory=list)
    places: dict[str, list[dict[str, str]]] = Field(default_factory=dict)


class StoredStage(_Loose):
    """A spec.json.

    Attributes:
        spec: as it was hashed.
    """

    label: str = ""
    spec: dict[str, Any]
    runtime: Told = Told()

    @classmethod
    def read(cls, path: Path) -> StoredStage:
        """Read it. Raises ArtifactError where it is missing or says nothing of a stage."""
        return cls.of(read_json(path), path)

    @classmethod
    def of(cls, value: Any, path: Path) -> StoredStage:
        """The same of what was read from `path`."""
        try:
            stage = cls.model_validate(value)
            _ = stage.glance
        except ValidationError:
            raise ArtifactError(f"{path}: truncated or altered (no record of a stage)") from None
        return stage

    @cached_property
    def glance(self) -> Glance:
        """The spec, typed."""
        return Glance.model_validate(self.spec)
