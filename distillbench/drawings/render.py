"""Pictures of scenes: a ground and one or two things in one of four styles, vectorised in numpy.

Every picture depends on its scene and its own (seed, index) alone, never on the batch it is drawn
in: all randomness is a hash of (seed, index, slot).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from distillbench.drawings import household, living, things
from distillbench.drawings.grounds import GROUNDS, Scenery
from distillbench.drawings.part import Drawing, Frame
from distillbench.drawings.shapes import Map, moved
from distillbench.drawings.styles import STYLES, Subject, finish, wobble
from distillbench.drawings.uniform import uniforms

__all__ = ["COLOURS", "SIZE", "THINGS", "Scenes", "draw"]

SIZE: Final = 32
THINGS: Final[dict[str, Drawing]] = {
    name: getattr(module, name) for module in (things, household, living) for name in module.__all__
}
COLOURS: Final[dict[str, tuple[float, float, float]]] = {
    "red": (0.86, 0.20, 0.18), "orange": (0.96, 0.53, 0.13), "yellow": (0.96, 0.82, 0.22),
    "green": (0.28, 0.66, 0.30), "blue": (0.20, 0.42, 0.86), "purple": (0.56, 0.30, 0.74),
    "pink": (0.96, 0.56, 0.72), "grey": (0.60, 0.61, 0.65),
}  # fmt: skip
_SLOTS: Final = 96  # 0-23 ground, 24-35 style, 36-65 thing one, 66-95 thing two
_AXIS: Final = ((np.arange(SIZE, dtype=np.float32) + 0.5) / SIZE)[None]
Ints = NDArray[np.int64]
Images = NDArray[np.uint8]


@dataclass(frozen=True)
class Scenes:
    """Codes of N scenes.

    Attributes:
        style, ground: (N,).
        thing, colour: (N, 2), -1 where there is no second thing.
        place: (N, 2, 3), centre (x, y) and half size of each thing in sides of the picture.
    """

    style: Ints
    ground: Ints
    thing: Ints
    colour: Ints
    place: Map


def draw(
    scenes: Scenes,
    *,
    seed: int,
    index: Ints,
    spread: Map | None = None,
    camera: Map | None = None,
) -> Images:
    """(N, 32, 32, 3) uint8 pictures of the scenes; picture i is a function of (scene, index).

    Args:
        spread: (N,) in [0, 1] draws every free parameter towards its middle: at 0 all pictures of
            a scene are the same typical one, as from a generator that has lost its modes.
        camera: (N, 2) how far the camera is moved to the right and down, in sides. It moves the
            ground; things stand where `scenes` says in the picture.
    """
    noise = uniforms(seed, index, _SLOTS, stream=1)
    if spread is not None:
        noise = np.float32(0.5) + spread[:, None].astype(np.float32) * (noise - np.float32(0.5))
    moved_by = np.zeros((1, 2), np.float32) if camera is None else camera.astype(np.float32)
    x, y = np.broadcast_arrays(_AXIS[:, None, :], _AXIS[:, :, None])
    x, y = x + moved_by[:, :1, None], y + moved_by[:, 1:, None]

    def seen(rows: Ints) -> tuple[Map, Map]:
        return (x, y) if camera is None else (x[rows], y[rows])

    out = np.empty((len(index), 3, SIZE, SIZE), np.float32)
    for code, paint in enumerate(GROUNDS.values()):
        rows = np.flatnonzero(scenes.ground == code)
        if len(rows):
            scenery = Scenery(*seen(rows), noise[rows, :24])
            paint(scenery)
            out[rows] = scenery.image
    for code, style in enumerate(STYLES):
        rows = np.flatnonzero(scenes.style == code)
        if len(rows):
            out[rows] = finish(style, out[rows], *seen(rows), noise[rows, 24:36])
            for slot in (0, 1):
                _things(out, scenes, rows, slot, style, noise)
    level = np.where(scenes.style == list(STYLES).index("photo"), 0.020, 0.006).astype(np.float32)
    grain = uniforms(seed, index, SIZE * SIZE, stream=2).reshape(-1, 1, SIZE, SIZE) - 0.5
    out += grain * (level * np.float32(12**0.5))[:, None, None, None]
    pixels = (np.clip(out, 0, 1) * 255 + 0.5).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))


def _things(out: Map, scenes: Scenes, among: Ints, slot: int, style: str, noise: Map) -> None:
    for code, drawing in enumerate(THINGS.values()):
        rows = among[scenes.thing[among, slot] == code]
        if len(rows):
            subject = _subject(scenes, rows, slot, style, drawing, noise[rows])
            out[rows] = STYLES[style](out[rows], subject)


def _subject(
    scenes: Scenes, rows: Ints, slot: int, style: str, drawing: Drawing, noise: Map
) -> Subject:
    own = noise[:, 36 + 30 * slot : 66 + 30 * slot]
    cx, cy, half = (scenes.place[rows, slot, k, None, None] for k in range(3))
    x, y = np.broadcast_arrays(_AXIS[:, None, :], _AXIS[:, :, None])
    u, v = moved(x, y, cx, cy, half)

    def number(k: int, low: float, high: float) -> Map:
        return np.asarray(low + (high - low) * noise[:, 24 + k], np.float32)[:, None, None]

    u, v = wobble(style, u, v, number)
    parts = drawing(Frame(u, v, own[:, :12]))
    main = _paint(scenes.colour[rows, slot], own[:, 12:15])
    # Another of the eight colours, which no caption names.
    other = scenes.colour[rows, slot] + 1 + np.floor(own[:, 15] * (len(COLOURS) - 1)).astype(int)
    accent = _paint(other % len(COLOURS), own[:, 16:19])
    light = number(11, 0.55, 0.95)  # from above, left or right
    return Subject(parts, half * SIZE, u, v, main, accent, light, own[:, 19:30])


def _paint(colour: Ints, noise: Map) -> Map:
    table = np.asarray(list(COLOURS.values()), np.float32)
    value = 1 + 0.2 * (noise[:, :1] - 0.5)
    out: Map = ((table[colour] + 0.1 * (noise - 0.5)) * value).astype(np.float32)
    return out
