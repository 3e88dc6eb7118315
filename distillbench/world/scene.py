"""Scenes of the world of drawings: what may be said of a picture, as words and as codes.

A scene has a style, a ground, and one or two things; a caption may leave any of that unsaid but
the kinds of things, so that it has many right pictures. Codes are one row of `COLUMNS` a scene,
-1 where there is nothing to say (the place of a pair, the second thing of a single).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from distillbench.drawings.grounds import GROUNDS
from distillbench.drawings.render import COLOURS, THINGS
from distillbench.drawings.styles import STYLES
from distillbench.drawings.uniform import splitmix

__all__ = [
    "COLUMNS", "LEVELS", "RELATIONS", "SINGLE", "Codes", "Scene", "Thing", "codes_of", "heldout",
    "scenes_of",
]  # fmt: skip

Codes = NDArray[np.int64]
RELATIONS: Final = ("left of", "right of", "above", "below")
LEVELS: Final[dict[str, tuple[str, ...]]] = {
    "style": tuple(STYLES),
    "ground": tuple(GROUNDS),
    "thing": tuple(THINGS),
    "colour": tuple(COLOURS),
    "size": ("small", "large"),
    "place": ("left", "middle", "right"),
    "relation": RELATIONS,
}
COLUMNS: Final = (
    "style", "ground", "thing", "colour", "size", "place", "relation", "thing2", "colour2", "size2",
)  # fmt: skip
SINGLE: Final = COLUMNS[:6]
"""What can be said of a picture of one thing, and what the judge reads from one."""
HELDOUT_PERCENT: Final = 15


@dataclass(frozen=True)
class Thing:
    """One drawn thing; None is unsaid."""

    kind: str
    colour: str | None = None
    size: str | None = None


@dataclass(frozen=True)
class Scene:
    """What a caption says; None is unsaid. Two things have a relation, one has a place."""

    things: tuple[Thing, ...]
    style: str | None = None
    ground: str | None = None
    place: str | None = None
    relation: str | None = None


def codes_of(scenes: list[Scene] | tuple[Scene, ...]) -> Codes:
    """(N, 10) codes; -1 for what is unsaid or does not apply."""
    rows = []
    for s in scenes:
        first, second = s.things[0], s.things[1] if len(s.things) > 1 else None
        words = (
            s.style, s.ground, first.kind, first.colour, first.size, s.place, s.relation,
            second and second.kind, second and second.colour, second and second.size,
        )  # fmt: skip
        rows.append([
            -1 if word is None else LEVELS[column.rstrip("2")].index(word)
            for column, word in zip(COLUMNS, words, strict=True)
        ])  # fmt: skip
    return np.array(rows, np.int64).reshape(-1, len(COLUMNS))


def scenes_of(codes: Codes) -> list[Scene]:
    """The inverse of `codes_of`."""
    found = []
    for row in codes:
        said = {
            column: LEVELS[column.rstrip("2")][code] if code >= 0 else None
            for column, code in zip(COLUMNS, row, strict=True)
        }
        things = [Thing(str(said["thing"]), said["colour"], said["size"])]
        if said["thing2"] is not None:
            things.append(Thing(said["thing2"], said["colour2"], said["size2"]))
        found.append(
            Scene(tuple(things), said["style"], said["ground"], said["place"], said["relation"])
        )
    return found


def heldout(codes: Codes) -> NDArray[np.bool_]:
    """(N,) whether the whole combination belongs to the held-out split (about 15 %).

    Of complete codes only: no training picture shows such a combination.
    """
    number = np.zeros(len(codes), np.uint64)
    with np.errstate(over="ignore"):
        for column in codes.T:
            number = splitmix(number ^ (column + 1).astype(np.uint64))
    return (number % np.uint64(100)) < np.uint64(HELDOUT_PERCENT)
