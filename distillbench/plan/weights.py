"""Published weights of a row: which bytes they are, and whether they fit its backbone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distillbench.errors import DistillbenchError
from distillbench.files.marks import MapNode, Problems, locate

if TYPE_CHECKING:
    from distillbench.api.backbone import Backbone
    from distillbench.api.published import Published

__all__ = ["identity_of"]


def identity_of(
    published: Published, backbone: Backbone, tree: MapNode, problems: Problems
) -> str | None:
    """Their identity; None where they do not fit, which is noted where they are named."""
    params = tree.get("params")
    inside = params is not None and "weights" in params
    mark, _ = locate(params, ("weights",)) if inside else locate(tree, ("params",))
    try:
        identity = published.identity()
        there = not identity.startswith("missing:")
        found = backbone.unfit(published) if there else ()
    except DistillbenchError as error:
        identity, found = "", (error.line,)
    for what in found:
        problems.add(mark, what)
    return None if found else identity
