"""Former spellings of settings, said at the field that has taken their place, and refused.

    updates: Annotated[PositiveInt, renamed("steps")] = 1000
    sampling: Annotated[Literal["near_trajectory"], renamed(near="near_trajectory")]

Whoever checks a key or a value (`explain.validated`, `experiment.select`) asks here, so that an old
spelling is answered with the new one wherever it stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from pydantic import BaseModel

__all__ = ["Renamed", "former_keys", "former_values", "renamed"]


@dataclass(frozen=True)
class Renamed:
    """Former keys of a field, and its former values with those that replace them."""

    keys: tuple[str, ...]
    values: tuple[tuple[str, str], ...]
    note: str


def renamed(*keys: str, note: str = "", **values: str) -> Renamed:
    """The mark of a field that was called `keys`, or whose values were; `note` says more."""
    return Renamed(keys, tuple(values.items()), note)


@cache
def former_keys(model: type[BaseModel]) -> Mapping[str, tuple[str, str]]:
    """Former key -> the present one, and what else is to be said of it."""
    return {key: (name, mark.note) for name, mark in _marks(model) for key in mark.keys}


@cache
def former_values(model: type[BaseModel]) -> Mapping[str, Mapping[str, str]]:
    """Field -> its former values with the present ones."""
    return {name: dict(mark.values) for name, mark in _marks(model) if mark.values}


def _marks(model: type[BaseModel]) -> list[tuple[str, Renamed]]:
    """A subclass that gives a field another default keeps its mark."""
    return [
        (name, mark)
        for base in model.__mro__
        for name, field in getattr(base, "__pydantic_fields__", {}).items()
        for mark in field.metadata
        if isinstance(mark, Renamed) and name in model.model_fields
    ]
