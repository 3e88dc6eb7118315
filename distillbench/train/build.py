"""The method of a train stage on its backbone, as it was planned."""

from __future__ import annotations

from distillbench.api import registry
from distillbench.api.method import Method
from distillbench.errors import BadInput
from distillbench.files.source import other_weights
from distillbench.specs.context import Runtime
from distillbench.specs.stages import TrainSpec

__all__ = ["build"]


def build(spec: TrainSpec, runtime: Runtime) -> Method:
    """The method of a stage's spec on its backbone, neither of them loaded.

    Raises:
        BadInput: weights of the backbone, or published ones, are not those of the plan.
    """
    backbone = registry.build_backbone(*spec.plugin("backbone", runtime))
    if other_weights(spec.backbone.revision, backbone.revision()):
        raise _changed(f"of backbone {spec.backbone.name}")
    method = registry.build_method(*spec.plugin("method", runtime), backbone)
    published = method.published()
    if published is not None and published.identity() != spec.method.weights:
        raise _changed(published.weights)
    return method


def _changed(weights: str) -> BadInput:
    return BadInput(
        f"the weights {weights} are not those that this run was planned with",
        hint="plan again, and leave them as they are meanwhile",
    )
