"""Published weights of a row: which bytes they are, and whether they fit its backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from distillbench.api.published import Published
from distillbench.errors import DistillbenchError
from distillbench.files.marks import MapNode, Problems, locate
from distillbench.specs.stages import OnTopSpec

if TYPE_CHECKING:
    from distillbench.api.backbone import Backbone
    from distillbench.experiment.schema import CellConfig

__all__ = ["adapters_of", "identity_of"]


def adapters_of(
    config: CellConfig, backbone: Backbone, tree: MapNode, problems: Problems
) -> list[OnTopSpec]:
    """The LoRAs that a row puts on its network; what does not fit is noted where it stands."""
    specs = []
    for index, given in enumerate(config.adapters):
        published = Published(given.weights, "lora", given.scale, "", given.sha256)
        mark, _ = locate(tree, ("adapters", index, "weights"))
        identity, found = _looked_at(published, backbone)
        for what in found:
            problems.add(mark, what)
        specs.append(OnTopSpec(weights=identity, scale=given.scale))
    return specs


def identity_of(
    published: Published, backbone: Backbone, tree: MapNode, problems: Problems
) -> str | None:
    """Their identity; None where they do not fit, which is noted where they are named."""
    params = tree.get("params")
    inside = params is not None and "weights" in params
    mark, _ = locate(params, ("weights",)) if inside else locate(tree, ("params",))
    identity, found = _looked_at(published, backbone)
    for what in found:
        problems.add(mark, what)
    return None if found else identity


def _looked_at(published: Published, backbone: Backbone) -> tuple[str, Sequence[str]]:
    """The identity of weights, and why they do not fit."""
    try:
        identity = published.identity()
        there = not identity.startswith("missing:")
        return identity, backbone.unfit(published) if there else ()
    except DistillbenchError as error:
        return "", (error.line,)
