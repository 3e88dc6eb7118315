"""Published weights of a row: which bytes they are, and whether they fit its backbone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from distillbench.api.published import Published
from distillbench.errors import DistillbenchError
from distillbench.files.marks import MapNode, Problems, locate
from distillbench.files.places import Need, package
from distillbench.plan.steering import pictures_need
from distillbench.specs.ontop import OnTopSpec
from distillbench.specs.stored import Told

if TYPE_CHECKING:
    from distillbench.api.backbone import Backbone
    from distillbench.experiment.schema import CellConfig

__all__ = ["adapters_of", "identity_of", "needs_of"]


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


def needs_of(spec: Mapping[str, Any], told: Told) -> Iterator[Need]:
    """The files of others that samples are made with, met or not."""
    yield from (Published(name).need() for name in told.adapters)
    for places in (its for listed in told.places.values() for its in listed):
        yield pictures_need(places["images"])
    for places in told.places.get("control", ()):
        yield Published(places["weights"], "pipeline").need()
    for places in told.places.get("image_prompts", ()):
        yield Published(places["weights"]).need()
        yield Published(places["encoder"]).need()
    if any(its.get("make") == "canny" for its in spec.get("control", ())):
        yield package("cv2", 'pip install "distillbench[control]"')


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
