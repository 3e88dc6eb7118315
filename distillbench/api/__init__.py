"""What a plug-in author imports: `from distillbench.api import Method, Losses, NetSpec, Optim`.

`INDEX` is all of it. A name is imported when it is asked for, and none costs the import of torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from distillbench.api.backbone import Backbone as Backbone
    from distillbench.api.backbone import Cond as Cond
    from distillbench.api.backbone import Footprint as Footprint
    from distillbench.api.backbone import Modality as Modality
    from distillbench.api.backbone import Prediction as Prediction
    from distillbench.api.fields import NEUTRAL as NEUTRAL
    from distillbench.api.fields import SAMPLING as SAMPLING
    from distillbench.api.fields import SIZE as SIZE
    from distillbench.api.fields import renamed as renamed
    from distillbench.api.method import Batch as Batch
    from distillbench.api.method import Losses as Losses
    from distillbench.api.method import Method as Method
    from distillbench.api.method import NetSpec as NetSpec
    from distillbench.api.method import Optim as Optim
    from distillbench.api.metric import Metric as Metric
    from distillbench.api.metric import MetricInfo as MetricInfo
    from distillbench.api.metric import Samples as Samples
    from distillbench.api.metric import Scores as Scores
    from distillbench.api.metric import mean_scores as mean_scores
    from distillbench.api.nets import NetHandle as NetHandle
    from distillbench.api.nets import Slot as Slot
    from distillbench.api.nets import head_handle as head_handle
    from distillbench.api.prompts import PromptSet as PromptSet
    from distillbench.api.registry import BACKBONES as BACKBONES
    from distillbench.api.registry import METHODS as METHODS
    from distillbench.api.registry import METRICS as METRICS
    from distillbench.api.registry import Registry as Registry
    from distillbench.api.registry import add_plugin as add_plugin
    from distillbench.api.registry import build_backbone as build_backbone
    from distillbench.api.registry import build_method as build_method
    from distillbench.api.registry import build_metric as build_metric
    from distillbench.api.sampler import Denoiser as Denoiser
    from distillbench.api.sampler import Sampler as Sampler
    from distillbench.api.sampler import StepNoise as StepNoise
    from distillbench.api.samplers import GammaSampler as GammaSampler
    from distillbench.api.samplers import OdeSampler as OdeSampler
    from distillbench.api.samplers import RenoiseSampler as RenoiseSampler
    from distillbench.errors import BadInput as BadInput
    from distillbench.errors import MissingWeights as MissingWeights
    from distillbench.errors import NotSupported as NotSupported
    from distillbench.files.places import Need as Need

INDEX: Final[dict[str, tuple[str, ...]]] = {
    "distillbench.api.method": ("Method", "Losses", "NetSpec", "Optim", "Batch"),
    "distillbench.api.metric": ("Metric", "MetricInfo", "Samples", "Scores", "mean_scores"),
    "distillbench.api.backbone": ("Backbone", "Cond", "Prediction", "Footprint", "Modality"),
    "distillbench.api.sampler": ("Sampler", "Denoiser", "StepNoise"),
    "distillbench.api.samplers": ("OdeSampler", "RenoiseSampler", "GammaSampler"),
    "distillbench.api.nets": ("NetHandle", "Slot", "head_handle"),
    "distillbench.api.prompts": ("PromptSet",),
    "distillbench.api.fields": ("SAMPLING", "NEUTRAL", "SIZE", "renamed"),
    "distillbench.api.registry": (
        "METHODS", "METRICS", "BACKBONES", "Registry", "add_plugin",
        "build_method", "build_metric", "build_backbone",
    ),
    "distillbench.files.places": ("Need",),
    "distillbench.errors": ("BadInput", "NotSupported", "MissingWeights"),
}  # fmt: skip
"""Module -> the names of it that plug-ins use, in the order of docs/plugin-api.md."""

_HOME: Final = {name: module for module, names in INDEX.items() for name in names}

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
