"""The backbones of a plan, and which students may be carried from one to another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distillbench.api.backbone import Backbone
from distillbench.specs.stages import BackboneSpec

if TYPE_CHECKING:
    from distillbench.api.method import Method

__all__ = ["UsedBackbone", "not_carried"]


@dataclass(frozen=True)
class UsedBackbone:
    """An alias with its (unloaded) backbone.

    Attributes:
        spec: the identity that goes into keys.
        settings: what is in no key, such as the place of its weights.
    """

    alias: str
    backbone: Backbone
    spec: BackboneSpec
    settings: Mapping[str, Any]


def not_carried(method: Method, used: UsedBackbone, on: UsedBackbone) -> str:
    """Why a student cannot be sampled on another backbone than its own; "" when it can."""
    if not method.has_student:
        return f"{method.name} has no student that could be sampled on {on.alias!r}"
    if method.backbone is not method.base:
        return f"{method.name} brings a backbone of its own, which is what is sampled"
    one, two = used.backbone, on.backbone
    if (one.process_kind, one.modality) != (two.process_kind, two.modality):
        return f"backbone {on.alias!r} is of another process than {used.alias!r}"
    mine, theirs = one.network_tensors(), two.network_tensors()
    names = sorted(n for n in {*mine, *theirs} if mine.get(n) != theirs.get(n))
    if mine and theirs and names:
        return (
            f"the networks of {used.alias!r} and {on.alias!r} are not of one architecture: "
            f"{len(names)} weights differ ({', '.join(names[:3])})"
        )
    return ""
