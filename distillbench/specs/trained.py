"""What lies beside a trained student's tensors: how to rebuild its net, and how to sample it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, field_validator

from distillbench.errors import BadInput
from distillbench.specs.record import FileRecord

__all__ = [
    "ExportBase",
    "ExportRecipe",
    "Lineage",
    "NetRecord",
    "TrainedBackbone",
    "TrainedMethod",
    "TrainingRecipe",
]

_TRAINING = "name the folder of a finished training, or train it again"


class NetRecord(FileRecord):
    """net.json: how `Backbone.make_net` makes the student's net again.

    Attributes:
        role: name of the net.
        kind, opts: as the backbone takes them.
    """

    file: ClassVar[str] = "net.json"
    remedy: ClassVar[str] = _TRAINING

    role: str
    kind: Literal["lora", "copy"]
    opts: dict[str, Any]


class Lineage(FileRecord):
    """What the recipe.json of a training says of the run that it stands on.

    Attributes:
        teacher: key of the run it took as teacher, None for none; runs lie side by side.
    """

    file: ClassVar[str] = "recipe.json"
    remedy: ClassVar[str] = _TRAINING

    teacher: str | None = None

    @field_validator("teacher")
    @classmethod
    def _beside(cls, key: str | None) -> str | None:
        if key is not None and Path(key).name != key:
            raise ValueError(f"{key!r} is no key of a run beside it")
        return key or None

    @classmethod
    def of(cls, value: Any, path: Path) -> Self:
        """The same of what was read from `path`.

        Raises:
            BadInput: it is that of an export for diffusers, which has lost what a training knows.
        """
        if isinstance(value, Mapping) and "pipeline" in value and "backbone" not in value:
            run = value.get("training")
            raise BadInput(
                f"{path.parent}: an export for diffusers, not the folder of a training",
                hint="run the code of its README.md" + (f", or name training {run}" if run else ""),
            )
        return super().of(value, path)


class _Plugin(BaseModel):
    """A plug-in of a training, with all of its settings."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    name: str
    params: dict[str, Any]


class TrainedBackbone(_Plugin):
    """The backbone of a training; `revision` is the identity of its weights, None of old runs."""

    revision: str | None = None


class TrainedMethod(_Plugin):
    """The method of a training; `weights` are those published ones that it was made of."""

    version: int = 0
    weights: str | None = None


class TrainingRecipe(Lineage):
    """recipe.json of a training: its default sampling recipe, and what rebuilds any other.

    Attributes:
        default: a sampler as plain data.
        precision: it is sampled in.
    """

    default: dict[str, Any]
    method: TrainedMethod
    backbone: TrainedBackbone
    precision: Literal["float32", "bfloat16", "float16"]


class ExportBase(BaseModel):
    """What an export is loaded onto: backbone, settings, identity of its weights."""

    backbone: str
    params: dict[str, Any]
    revision: str


class ExportRecipe(FileRecord):
    """recipe.json of an export: how to rebuild and sample the student outside this package.

    Attributes:
        pipeline, scheduler: classes of diffusers.
        load_with: what reads the student's weights.
        sampler: our recipe.
        call: every argument of the pipeline's call but prompt and generator.
        timesteps: input times of the steps; `sigmas` where its pipelines take those.
        fixed: scalar inputs that are part of the network, at these values.
        diffusers_ignores: names of `limits`.
        limits: what of the recipe diffusers does not follow -> why.
        training: key of the run.
    """

    file: ClassVar[str] = "recipe.json"
    remedy: ClassVar[str] = "export the student again"

    pipeline: str
    base: ExportBase
    load_with: str
    precision: str
    method: TrainedMethod
    scheduler: str
    sampler: dict[str, Any]
    call: dict[str, Any]
    guidance_scale: int | float | None
    num_inference_steps: int
    timesteps: list[int | float]
    sigmas: list[float] | None = None
    eta: float | None = None
    fixed: dict[str, float]
    diffusers_ignores: list[str]
    limits: dict[str, str]
    training: str
