"""What a setting of a plug-in decides, said at the field; the keys of results follow from it.

    gamma: Annotated[float, SAMPLING] = 0.3

A field without a mark decides the training, and so all that follows from it. One that came later,
whose default is what was always done, is ADDED: at its default it is in no key, so that finished
runs stay found. `renamed("old")`
marks a field that was called otherwise: the old spelling is refused by naming the new one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel

from distillbench.files.renamed import renamed

__all__ = [
    "ADDED", "NEUTRAL", "SAMPLING", "SIZE", "Split", "neutral", "renamed", "same_network", "split",
]  # fmt: skip


@dataclass(frozen=True)
class _Mark:
    name: str


SAMPLING: Final = _Mark("sampling")
"""Read by `Method.sampler` alone: it reaches results through the sampling recipe it returns."""

NEUTRAL: Final = _Mark("neutral")
"""Says where something lies whose content `revision` names, or how it runs to the same numbers."""


@dataclass(frozen=True)
class _Size:
    """Kept apart from `_Mark`: it decides keys as an unmarked field does."""


SIZE: Final = _Size()
"""How large a backbone's samples are: it decides what is made, but not the network's weights."""


@dataclass(frozen=True)
class _Added:
    """Kept apart from `_Mark` too: off its default it decides keys as an unmarked field does."""


ADDED: Final = _Added()
"""Newer than results are; its default leaves everything as it was before."""


@dataclass(frozen=True)
class Split:
    """Settings of a plug-in, JSON-able: those that decide a key, and the marked ones."""

    decisive: Mapping[str, Any]
    marked: Mapping[str, Any]


def split(config: BaseModel) -> Split:
    """Tell the settings of a plug-in apart by their marks."""
    marked = set(_marked(type(config), SAMPLING, NEUTRAL))
    unchanged = {
        name
        for name, field in type(config).model_fields.items()
        if ADDED in field.metadata and getattr(config, name) == field.default
    }
    dumped = config.model_dump(mode="json")
    settings = {name: value for name, value in dumped.items() if name not in unchanged}
    return Split(
        {name: value for name, value in settings.items() if name not in marked},
        {name: value for name, value in settings.items() if name in marked},
    )


def same_network(one: BaseModel, two: BaseModel) -> bool:
    """Whether two backbones' settings differ at most in the size of what is made."""
    if type(one) is not type(two):
        return False
    fields = type(one).model_fields.items()
    sizes = {name for name, field in fields if any(isinstance(m, _Size) for m in field.metadata)}
    kept = [
        {name: value for name, value in split(config).decisive.items() if name not in sizes}
        for config in (one, two)
    ]
    return kept[0] == kept[1]


def neutral(kind: type[BaseModel]) -> frozenset[str]:
    """Names of the settings that are marked NEUTRAL."""
    return frozenset(_marked(kind, NEUTRAL))


def _marked(kind: type[BaseModel], *marks: _Mark) -> Iterator[str]:
    """Names of marked fields; a subclass that gives a field another default keeps its mark."""
    for base in kind.__mro__:
        for name, field in getattr(base, "__pydantic_fields__", {}).items():
            if any(mark in field.metadata for mark in marks):
                yield name
