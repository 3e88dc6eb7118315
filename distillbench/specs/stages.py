"""The specs of the three kinds of stages: all that decides their results, and nothing else.

A plan hashes a spec as a plain mapping (`plan.build` makes them); these records are its typed view,
and what a stage function reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveInt,
    SerializeAsAny,
    model_validator,
)

from distillbench.api.sampler import Sampler
from distillbench.api.samplers import from_recipe
from distillbench.errors import BadInput
from distillbench.specs.context import PluginRole, Runtime
from distillbench.specs.ontop import ControlSpec, ImagePromptSpec, OnTopSpec
from distillbench.specs.record import Record
from distillbench.specs.settings import OPTIONAL, FitSpec, TrainSettings

__all__ = [
    "IDENTITY_VERSION", "PLACED", "AnySpec", "BackboneSpec", "DataSpec", "FitSpec", "GivenSpec",
    "Kind", "MethodSpec", "MetricSpec", "Plugin", "PromptsSpec", "SampleSpec",
    "SampledSpec", "ScoreSpec", "Spec", "TrainSettings", "TrainSpec", "record_of",
]  # fmt: skip

IDENTITY_VERSION = 2
"""Part of every key. Raise it when specs change their meaning without changing their fields."""

Key = str
Kind = Literal["train", "sample", "score"]


def _recipe(value: Any) -> Any:
    try:
        return value if isinstance(value, Sampler) else from_recipe(value)
    except BadInput as error:
        raise ValueError(str(error)) from None


Recipe = Annotated[SerializeAsAny[Sampler], BeforeValidator(_recipe)]


class Plugin(NamedTuple):
    """A plug-in with all of its settings: those that decide, and those that do not."""

    name: str
    params: dict[str, Any]


class BackboneSpec(Record):
    """A backbone: registered name, the settings that decide, the identity of its weights."""

    name: str
    params: dict[str, Any]
    revision: str


class MethodSpec(Record):
    """A method: registered name, version of its mathematics, the settings that decide.

    Attributes:
        weights: identity of published weights that it takes, None for what is trained here.
    """

    name: str
    version: int
    params: dict[str, Any]
    weights: str | None = None


class MetricSpec(Record):
    """A metric: registered name, version, the settings that decide, identity of its weights."""

    name: str
    version: int
    params: dict[str, Any]
    revision: str


class DataSpec(Record):
    """What is trained on, by content.

    Attributes:
        prompts_sha256: of a prompt set, or of the captions of images that are not looked at.
        images_sha256: of images with their captions, "" where none are read.
        fit: of images that are read.
    """

    prompts_sha256: str = ""
    images_sha256: str = ""
    fit: FitSpec | None = None


class PromptsSpec(Record):
    """The prompts of samples: their set by content, and how many; a short set is cycled."""

    sha256: str
    n: PositiveInt


class Spec(Record):
    """What all kinds share.

    Attributes:
        identity: the version of keys it was made by.
    """

    kind: ClassVar[Kind]

    identity: int

    @model_validator(mode="before")
    @classmethod
    def _of_this_version(cls, raw: Any) -> Any:
        version = raw.get("identity") if isinstance(raw, Mapping) else None
        if isinstance(version, int) and version != IDENTITY_VERSION:
            raise ValueError(f"its keys are of version {version}, these are {IDENTITY_VERSION}")
        return raw

    @property
    def plugins(self) -> dict[PluginRole, BackboneSpec | MethodSpec | MetricSpec]:
        """Role -> the plug-in of that role."""
        return {}

    def plugin(self, role: PluginRole, runtime: Runtime) -> Plugin:
        """The plug-in of a role with all of its settings; see `api.fields`."""
        told = self.plugins[role]
        return Plugin(told.name, {**told.params, **runtime.settings.get(role, {})})


class TrainSpec(Spec):
    """A training, or what stands for one where a method has no nets.

    Attributes:
        data: empty where nothing is trained.
        seed: of the run; 0 where nothing is trained.
        teacher: the training whose net takes the teacher's place; None is the backbone's own.
        init: the training whose student this one starts from.
    """

    kind = "train"

    backbone: BackboneSpec
    method: MethodSpec
    train: TrainSettings
    data: DataSpec
    seed: NonNegativeInt
    teacher: Key | None
    init: Key | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """A training says all of its settings; the defaults are for what is not trained."""
        for part, optional in ((self.train, OPTIONAL), (self.data, {"fit"})):
            lacks = set(type(part).model_fields) - part.model_fields_set - optional
            if self.trains and lacks:
                name = "train" if part is self.train else "data"
                raise ValueError(f"{name} lacks {', '.join(sorted(lacks))}")
        return self

    @property
    def trains(self) -> bool:
        """Whether anything is trained."""
        return bool(self.data.model_fields_set)

    @property
    def plugins(self) -> dict[PluginRole, BackboneSpec | MethodSpec | MetricSpec]:
        """Role -> the plug-in of that role."""
        return {"backbone": self.backbone, "method": self.method}


class SampledSpec(Spec):
    """Samples, made here or elsewhere.

    Attributes:
        prompts: one prompt a sample.
        seed: of the run.
    """

    kind = "sample"

    prompts: PromptsSpec
    seed: NonNegativeInt


class GivenSpec(SampledSpec):
    """Samples that another tool made.

    Attributes:
        samples_sha256: of their files in the order of the prompts.
    """

    samples_sha256: str


PLACED = ("sample_on", "onto", "adapters", "control", "image_prompts")
"""Fields of samples that say what a student is sampled with beside its own weights."""


class SampleSpec(SampledSpec):
    """Samples of a training; noise is a function of the seed and of a sample's number.

    Attributes:
        train: the training.
        sampler: the whole recipe.
        batch_size: samples of one network call.
        sample_on: another backbone that the student is carried over to; None is its own.
        onto: a training of the same backbone that it is carried over to; None for none.
        adapters: LoRAs of others on the network that is sampled.
        control, image_prompts: ControlNets and IP-Adapters that steer it.
        trajectory: of so many samples the clean prediction of every evaluation is kept.
    """

    train: Key
    backbone: BackboneSpec
    method: MethodSpec
    sampler: Recipe
    batch_size: PositiveInt
    sample_on: BackboneSpec | None = None
    onto: Key | None = None
    adapters: list[OnTopSpec] = Field(default_factory=list)
    control: list[ControlSpec] = Field(default_factory=list)
    image_prompts: list[ImagePromptSpec] = Field(default_factory=list)
    trajectory: NonNegativeInt = 0

    @property
    def plugins(self) -> dict[PluginRole, BackboneSpec | MethodSpec | MetricSpec]:
        """Role -> the plug-in of that role."""
        more: dict[PluginRole, BackboneSpec | MethodSpec | MetricSpec] = {}
        if self.sample_on is not None:
            more["sample_on"] = self.sample_on
        return {"backbone": self.backbone, "method": self.method, **more}


class ScoreSpec(Spec):
    """Scores of samples by one metric.

    Attributes:
        sample: the samples.
        reference: the samples they are compared with, None for a metric that compares with none.
    """

    kind = "score"

    sample: Key
    reference: Key | None
    metric: MetricSpec

    @property
    def plugins(self) -> dict[PluginRole, BackboneSpec | MethodSpec | MetricSpec]:
        """Role -> the plug-in of that role."""
        return {"metric": self.metric}


AnySpec = TrainSpec | SampleSpec | GivenSpec | ScoreSpec


def record_of(kind: Kind, spec: Mapping[str, Any]) -> type[AnySpec]:
    """The record of a stage's spec."""
    if kind == "sample":
        return GivenSpec if "samples_sha256" in spec else SampleSpec
    return TrainSpec if kind == "train" else ScoreSpec
