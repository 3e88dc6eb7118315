"""The method of a train stage on its backbone, as it was planned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distillbench.api import registry
from distillbench.api.method import Method
from distillbench.errors import BadInput

__all__ = ["build"]


def build(spec: Mapping[str, Any], runtime: Mapping[str, Any] | None = None) -> Method:
    """The method of a stage's spec on its backbone, neither of them loaded.

    Raises:
        BadInput: weights of the backbone, or published ones, are not those of the plan.
    """
    more = (runtime or {}).get("settings", {})
    (name, params), (theirs, their_params) = (
        (spec[part]["name"], {**spec[part]["params"], **more.get(part, {})})
        for part in ("method", "backbone")
    )
    backbone = registry.build_backbone(theirs, their_params)
    planned = spec["backbone"].get("revision")
    if planned not in (None, backbone.revision()):
        raise BadInput(
            f"the weights of backbone {theirs} are not those that this run was planned with",
            hint="plan again, and leave them as they are meanwhile",
        )
    method = registry.build_method(name, params, backbone)
    published = method.published()
    if published is not None and published.identity() != spec["method"].get("weights"):
        raise BadInput(
            f"the weights {published.weights} are not those that this run was planned with",
            hint="plan again, and leave them as they are meanwhile",
        )
    return method
