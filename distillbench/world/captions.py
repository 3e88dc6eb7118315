"""Captions of scenes: exact labels in three wordings, and the way back from words to a scene."""

from __future__ import annotations

from typing import Final

from distillbench.errors import BadInput
from distillbench.world.scene import (
    BACKGROUNDS,
    COLOURS,
    POSITIONS,
    RELATION_POSITIONS,
    RELATIONS,
    SHAPES,
    SIZES,
    STYLES,
    Scene,
    Thing,
)

WORDINGS: Final = 3
MAX_WORDS: Final = 16
_GLUE: Final = ("a", "an", "of", "at", "the", "on", "in", "style", "background", ",")
VOCABULARY: Final[tuple[str, ...]] = tuple(
    sorted({*SHAPES, *COLOURS, *SIZES, *POSITIONS, *BACKGROUNDS, *STYLES, *RELATIONS, *_GLUE})
)


def caption(scene: Scene, *, wording: int = 0) -> str:
    """The scene in words; `wording` picks one of the three templates."""
    what = _things(scene)
    if wording == 0:
        article = "an" if scene.style.startswith("a") else "a"
        return f"{article} {scene.style} of {what} on {scene.background}"
    if wording == 1:
        return f"{what} on {scene.background} in {scene.style} style"
    return f"{scene.style} , {scene.background} background , {what}"


def scene_of(prompt: str) -> Scene:
    """The scene that a prompt describes; the inverse of `caption` in every wording.

    Raises BadInput when the prompt is not a caption of this world.
    """
    words = prompt.split()
    style = [w for w in words if w in STYLES]
    background = [w for w in words if w in BACKGROUNDS]
    relation = [w for w in words if w in RELATIONS]
    columns = [[w for w in words if w in values] for values in (SIZES, COLOURS, SHAPES)]
    count = len(columns[0])
    sides = _sides(words, relation)
    known = all(w in VOCABULARY for w in words)
    shaped = len(style) == len(background) == 1 and all(len(c) == count for c in columns)
    if not known or not shaped or len(sides) != count or count not in (1, 2):
        raise BadInput(
            f"not a caption of the tiny world: {prompt!r}; "
            f"an example is: 'a photo of a large red star at the left on snow'"
        )
    things = tuple(Thing(*row) for row in zip(*columns, sides, strict=True))
    return Scene(style[0], background[0], things, relation[0] if relation else None)


def _things(scene: Scene) -> str:
    named = [f"a {t.size} {t.colour} {t.shape}" for t in scene.things]
    if scene.relation is None:
        return f"{named[0]} at the {scene.things[0].position}"
    return f"{named[0]} {scene.relation} {named[1]}"


def _sides(words: list[str], relation: list[str]) -> tuple[str, ...]:
    if relation:
        return RELATION_POSITIONS[relation[0]]
    return tuple(w for w in words if w in POSITIONS)
