"""ControlNets and IP-Adapters of a row: which bytes and pictures they are, whether they fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillbench.api.published import Published
from distillbench.api.steering import Made, Steer
from distillbench.errors import BadInput, DistillbenchError
from distillbench.experiment.beside import looked_in
from distillbench.files.marks import MapNode, Mark, Problems, locate
from distillbench.files.places import Need, is_images_path
from distillbench.specs.ontop import ControlSpec, ImagePromptSpec

if TYPE_CHECKING:
    from distillbench.api.backbone import Backbone
    from distillbench.api.prompts import PromptSet
    from distillbench.experiment.schema import CellConfig

__all__ = ["Steered", "pictures_need", "steered"]


@dataclass(frozen=True)
class Steered:
    """Fields of a sample's spec, and the places that its stage is told."""

    spec: dict[str, list[ControlSpec | ImagePromptSpec]]
    places: dict[str, list[dict[str, str]]]


def steered(
    config: CellConfig, backbone: Backbone, prompts: PromptSet | None, n: int, tree: MapNode,
    problems: Problems,
) -> Steered:  # fmt: skip
    """What steers a row's samples; what does not fit is noted where it stands.

    Args:
        prompts: they are sampled for; None where those are not known yet.
    """
    found = Steered({}, {})
    for kind, index, steer in _listed(config):
        mark, _ = locate(tree, (kind, index, "weights"))
        at, _ = locate(tree, (kind, index, "images"))
        weights, encoder, images = "", "", ""
        try:
            weights = steer.weights.identity()
            encoder = steer.encoder.identity() if steer.encoder is not None else ""
            for what in backbone.unfit_steer(steer):
                problems.add(mark, what)
        except DistillbenchError as error:
            problems.add(mark, error.line)
        try:
            images = _pictures(steer.images, prompts, n, at)
        except BadInput as error:
            for line in error.line.splitlines():
                problems.add(at, line)
        found.spec.setdefault(kind, []).append(_spec(steer, weights, encoder, images))
        found.places.setdefault(kind, []).append(_places(steer))
    return found


def _listed(config: CellConfig) -> Iterator[tuple[str, int, Steer]]:
    for index, its in enumerate(config.control):
        made = Made(its.make, its.low, its.high) if its.make else Made()
        weights = Published(its.weights, "network", sha256=its.sha256)
        yield "control", index, Steer("control", weights, its.images, its.scale, made)
    for index, given in enumerate(config.image_prompts):
        weights = Published(given.weights, "network", sha256=given.sha256)
        encoder = Published(given.encoder, "pipeline")
        steer = Steer("image_prompts", weights, given.images, given.scale, encoder=encoder)
        yield "image_prompts", index, steer


def _pictures(images: str, prompts: PromptSet | None, n: int, at: Mark) -> str:
    """Identity of the pictures; of a named set that is not on this disk "missing:<name>"."""
    from distillbench.data.steering import is_there, pictures_place, steering_pictures

    place = pictures_place(images)
    if not is_there(place):
        if is_images_path(images):
            raise BadInput(f"no folder {place}{looked_in(images, at)}")
        return f"missing:{images}"
    if prompts is None:
        return ""
    return steering_pictures(place, prompts, n, draw=False).sha256


def pictures_need(place: str) -> Need:
    """The pictures of a ControlNet or an IP-Adapter, met or not."""
    from distillbench.data.steering import is_there

    path = Path(place)
    if is_there(path):
        return Need("images", path.name)
    fix = "put pictures there, called as the prompts are or in their order, or name another folder"
    return Need("images", path.name, f"no folder {path}", fix)


def _spec(steer: Steer, weights: str, encoder: str, images: str) -> ControlSpec | ImagePromptSpec:
    scale = steer.scale
    if steer.kind == "image_prompts":
        return ImagePromptSpec(weights=weights, encoder=encoder, scale=scale, images=images)
    made, more = steer.made, dict[str, Any]()
    if made.make:
        more = {"make": made.make, "low": made.low, "high": made.high}
    return ControlSpec(weights=weights, scale=scale, images=images, **more)


def _places(steer: Steer) -> dict[str, str]:
    from distillbench.data.steering import pictures_place

    places = {"weights": steer.weights.weights, "images": str(pictures_place(steer.images))}
    return places if steer.encoder is None else {**places, "encoder": steer.encoder.weights}
