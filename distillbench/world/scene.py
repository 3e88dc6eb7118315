"""Scenes of the tiny world: attributes, integer codes, and the train / held-out split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

SHAPES: Final = ("circle", "square", "triangle", "star", "cross", "ring")
COLOURS: Final = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
SIZES: Final = ("small", "large")
POSITIONS: Final = ("left", "right", "top", "bottom", "center")
BACKGROUNDS: Final = ("night", "snow", "fog", "sand")
STYLES: Final = ("animation", "concept-art", "painting", "photo")
RELATIONS: Final = ("left-of", "right-of", "above", "below")
# A relation fixes the positions of the first and of the second thing.
RELATION_POSITIONS: Final = {
    "left-of": ("left", "right"),
    "right-of": ("right", "left"),
    "above": ("top", "bottom"),
    "below": ("bottom", "top"),
}
ATTRIBUTES: Final[dict[str, tuple[str, ...]]] = {
    "shape": SHAPES,
    "colour": COLOURS,
    "size": SIZES,
    "position": POSITIONS,
    "background": BACKGROUNDS,
    "style": STYLES,
}
_PAIR_LEVELS: Final = (4, 4, 4, 2, 8, 6, 2, 8, 6)
_SINGLE_LEVELS: Final = tuple(len(values) for values in ATTRIBUTES.values())
SINGLE_COUNT: Final = int(np.prod(_SINGLE_LEVELS))
PAIR_COUNT: Final = int(np.prod(_PAIR_LEVELS))
HELDOUT_PERCENT: Final = 15
Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Thing:
    """One drawn object; `position` is the relation's side in two-object scenes."""

    size: str
    colour: str
    shape: str
    position: str


@dataclass(frozen=True)
class Scene:
    """What a caption says: a style, a background, one or two things and their relation."""

    style: str
    background: str
    things: tuple[Thing, ...]
    relation: str | None = None

    def attributes(self) -> dict[str, str]:
        """The six attributes of a one-object scene, in the order of `ATTRIBUTES`."""
        assert len(self.things) == 1, "attributes() is for one-object scenes"
        thing = self.things[0]
        return {
            "shape": thing.shape,
            "colour": thing.colour,
            "size": thing.size,
            "position": thing.position,
            "background": self.background,
            "style": self.style,
        }


def splitmix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The splitmix64 finaliser: a stateless 64-bit hash, the same on every platform."""
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def is_heldout(combination: Codes, *, pair: bool) -> NDArray[np.bool_]:
    """Whether combinations of attributes belong to the held-out split (about 15 %)."""
    salt = np.uint64(0x5EED_0002 if pair else 0x5EED_0001)
    hashed = splitmix(splitmix(combination.astype(np.uint64)) ^ salt)
    return (hashed % np.uint64(100)) < np.uint64(HELDOUT_PERCENT)


def single_codes(combination: Codes) -> Codes:
    """(N,) combination numbers -> (N, 6) attribute codes in the order of `ATTRIBUTES`."""
    return np.stack(np.unravel_index(combination, _SINGLE_LEVELS), axis=-1).astype(np.int64)


def pair_codes(combination: Codes) -> Codes:
    """(N,) -> (N, 9): style, background, relation, then size, colour, shape of both things."""
    return np.stack(np.unravel_index(combination, _PAIR_LEVELS), axis=-1).astype(np.int64)


def single_scene(codes: Codes) -> Scene:
    """The one-object scene of six attribute codes."""
    shape, colour, size, position, background, style = (int(c) for c in codes)
    thing = Thing(SIZES[size], COLOURS[colour], SHAPES[shape], POSITIONS[position])
    return Scene(STYLES[style], BACKGROUNDS[background], (thing,))


def pair_scene(codes: Codes) -> Scene:
    """The two-object scene of nine codes."""
    style, background, relation, *rest = (int(c) for c in codes)
    name = RELATIONS[relation]
    sides = RELATION_POSITIONS[name]
    things = tuple(
        Thing(SIZES[rest[i]], COLOURS[rest[i + 1]], SHAPES[rest[i + 2]], side)
        for i, side in zip((0, 3), sides, strict=True)
    )
    return Scene(STYLES[style], BACKGROUNDS[background], things, name)


def attribute_codes(scene: Scene) -> tuple[int, ...]:
    """The six attribute codes of a one-object scene."""
    named = scene.attributes()
    return tuple(values.index(named[key]) for key, values in ATTRIBUTES.items())


def combination_of(scene: Scene) -> int:
    """The combination number of a scene within its kind (one or two objects)."""
    if len(scene.things) == 1:
        return int(np.ravel_multi_index(attribute_codes(scene), _SINGLE_LEVELS))
    assert scene.relation is not None, "a two-object scene has a relation"
    head = (
        STYLES.index(scene.style),
        BACKGROUNDS.index(scene.background),
        RELATIONS.index(scene.relation),
    )
    body = tuple(
        code
        for t in scene.things
        for code in (SIZES.index(t.size), COLOURS.index(t.colour), SHAPES.index(t.shape))
    )
    return int(np.ravel_multi_index(head + body, _PAIR_LEVELS))


def heldout(scene: Scene) -> bool:
    """Whether no training image may show this combination of attributes."""
    number = np.array([combination_of(scene)], dtype=np.int64)
    return bool(is_heldout(number, pair=len(scene.things) == 2)[0])
