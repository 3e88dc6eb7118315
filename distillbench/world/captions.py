"""Captions of scenes in three wordings, and the way back from words to what they say."""

from __future__ import annotations

from typing import Final

from distillbench.errors import BadInput
from distillbench.world.scene import LEVELS, RELATIONS, Scene, Thing

__all__ = ["MAX_WORDS", "VOCABULARY", "WORDINGS", "caption", "check_words", "scene_of"]

WORDINGS: Final = 3
MAX_WORDS: Final = 24
_WHERE: Final = {
    "night": "at night", "meadow": "in a meadow", "beach": "on a beach", "snow": "in the snow",
    "city": "in a city", "room": "in a room",
}  # fmt: skip
_PLACE: Final = {"left": "on the left", "middle": "in the middle", "right": "on the right"}
_WORDS: Final = {word for levels in LEVELS.values() for text in levels for word in text.split()}
_GLUE: Final = {"a", "an", "of", "at", "the", "on", "in", "style", ","}
VOCABULARY: Final = tuple(sorted(_WORDS | _GLUE))
_EXAMPLES: Final = "'a house' and 'a photo of a small red cat on the left in a meadow'"


def caption(scene: Scene, *, wording: int = 0) -> str:
    """What the scene says, in one of three wordings (they differ where style or ground is said)."""
    what = [_thing(t) for t in scene.things]
    said = f"{what[0]} {scene.relation} {what[1]}" if len(what) > 1 else what[0]
    if scene.place:
        said += f" {_PLACE[scene.place]}"
    where = _WHERE[scene.ground] if scene.ground else ""
    if wording == 2:
        head = [f"{scene.style} style"] if scene.style else []
        return " , ".join([*head, *([where] if where else []), said])
    said = f"{said} {where}" if where else said
    if wording == 1:
        return f"{said} in {scene.style} style" if scene.style else said
    return f"{_article(scene.style)} {scene.style} of {said}" if scene.style else said


def scene_of(prompt: str) -> Scene:
    """What a prompt says; the inverse of `caption` in every wording.

    Raises:
        BadInput: the prompt is not a caption of this world.
    """
    words = prompt.split()
    relation = next((r for r in RELATIONS if f" {r} " in f" {prompt} "), None)
    things = _things(words)
    place = [
        w for i, w in enumerate(words) if w in LEVELS["place"] and words[i + 1 : i + 2] != ["of"]
    ]
    style = [w for w in words if w in LEVELS["style"]]
    ground = [w for w in words if w in LEVELS["ground"]]
    scene = Scene(
        tuple(things), style[0] if style else None, ground[0] if ground else None,
        place[0] if place else None, relation,
    )  # fmt: skip
    fits = (len(things) == 1 and not relation) or (len(things) == 2 and relation and not place)
    if not (fits and prompt in {caption(scene, wording=each) for each in range(WORDINGS)}):
        raise BadInput(f"not a caption of the tiny world: {prompt!r}; examples are {_EXAMPLES}")
    return scene


def check_words(prompt: str) -> None:
    """Refuse a prompt with words that no caption has: a text tower would read nothing there.

    Raises:
        BadInput: names the words.
    """
    unknown = sorted(set(prompt.split()) - set(VOCABULARY))
    if unknown:
        raise BadInput(
            f"the tiny world has no word {', '.join(map(repr, unknown))} (prompt {prompt!r}); "
            f"examples of its captions are {_EXAMPLES}"
        )


def _things(words: list[str]) -> list[Thing]:
    """Every kind with the colour and the size that stand before it."""
    found, colour, size = [], None, None
    for word in words:
        if word in LEVELS["colour"]:
            colour = word
        elif word in LEVELS["size"]:
            size = word
        elif word in LEVELS["thing"]:
            found.append(Thing(word, colour, size))
            colour = size = None
    return found


def _thing(thing: Thing) -> str:
    words = [w for w in (thing.size, thing.colour, thing.kind) if w]
    return " ".join([_article(words[0]), *words])


def _article(word: str | None) -> str:
    return "an" if word and word[0] in "aeiou" else "a"
