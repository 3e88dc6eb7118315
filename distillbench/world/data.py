"""Captioned pictures by (seed, index): the training stream, and pictures that prompts allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from distillbench.drawings.render import Scenes, draw
from distillbench.drawings.shapes import Map
from distillbench.drawings.uniform import uniforms
from distillbench.world.captions import WORDINGS, caption, scene_of
from distillbench.world.scene import COLUMNS, LEVELS, Codes, codes_of, heldout, scenes_of

__all__ = [
    "PAIR_SHARE", "Draws", "completed", "draws", "render", "renders_of", "said_of",
    "scenes_at", "training_batch",
]  # fmt: skip

Images = NDArray[np.uint8]
PAIR_SHARE: Final = 0.2
FULL, BARE = 0.25, 0.2  # shares of captions that say all, and that say the things alone
_SIZES: Final = np.array([len(LEVELS[c.rstrip("2")]) for c in COLUMNS], np.int64)
_ALWAYS: Final = [COLUMNS.index(c) for c in ("thing", "thing2", "relation")]
_SECOND: Final = [COLUMNS.index(c) for c in ("relation", "thing2", "colour2", "size2")]
_PLACE: Final = COLUMNS.index("place")


@dataclass(frozen=True)
class Draws:
    """Scenes drawn by index.

    Attributes:
        codes: (N, 10) of the pictures, complete.
        said: (N, 10) codes with -1 where the caption says nothing.
        wording: (N,).
    """

    codes: Codes
    said: Codes
    wording: Codes

    def captions(self) -> list[str]:
        """The captions, each in its own wording."""
        scenes = zip(scenes_of(self.said), self.wording, strict=True)
        return [caption(scene, wording=int(w)) for scene, w in scenes]


def draws(
    seed: int, index: Codes, *, held: bool = False, pairs: float = PAIR_SHARE, style: bool = False
) -> Draws:
    """Scenes of one split by (seed, index).

    Args:
        held: of the held-out split instead of the training split.
        pairs: share of pictures with two things.
        style: whether every caption says the style, as those that are scored by style must.
    """
    u = uniforms(seed, index, 16).astype(np.float64)
    pair = u[:, 0] < pairs
    codes = np.zeros((len(index), len(COLUMNS)), np.int64)
    open_rows, turn = np.arange(len(index)), 0
    while len(open_rows):  # about one in seven combinations is held out
        tries = uniforms(seed, index[open_rows], len(COLUMNS), stream=16 + turn).astype(np.float64)
        codes[open_rows] = _applicable((tries * _SIZES).astype(np.int64), pair[open_rows])
        open_rows = open_rows[heldout(codes[open_rows]) != held]
        turn += 1
    return Draws(codes, _said(codes, u, style), (u[:, 15] * WORDINGS).astype(np.int64))


def _applicable(codes: Codes, pair: NDArray[np.bool_]) -> Codes:
    codes[..., _SECOND] = np.where(pair[..., None], codes[..., _SECOND], -1)
    codes[..., _PLACE] = np.where(pair, -1, codes[..., _PLACE])
    return codes


def _said(codes: Codes, u: NDArray[np.float64], style: bool) -> Codes:
    """A quarter of the captions say all, a fifth the things alone, the rest a random part."""
    keep = u[:, 2 : 2 + len(COLUMNS)] < 0.5
    keep |= (u[:, 1] < FULL)[:, None]
    keep &= (u[:, 1] < 1 - BARE)[:, None]
    keep[:, _ALWAYS] = True
    if style:
        keep[:, COLUMNS.index("style")] = True
    return np.where(keep, codes, -1)


def render(drawn: Draws, *, seed: int, index: Codes, spread: Map | None = None) -> Images:
    """(N, 32, 32, 3) uint8 pictures of drawn scenes; spread as in `drawings.render.draw`."""
    return draw(scenes_at(drawn, seed=seed, index=index), seed=seed, index=index, spread=spread)


def scenes_at(drawn: Draws, *, seed: int, index: Codes) -> Scenes:
    """Drawn scenes with their things put where they are said to be."""
    codes = dict(zip(COLUMNS, drawn.codes.T, strict=True))
    return Scenes(
        style=codes["style"],
        ground=codes["ground"],
        thing=np.stack([codes["thing"], codes["thing2"]], 1),
        colour=np.stack([codes["colour"], codes["colour2"]], 1),
        place=_places(codes, uniforms(seed, index, 8, stream=3)),
    )


def _places(codes: dict[str, Codes], u: Map) -> Map:
    """Centre and half size of both things, (N, 2, 3), in sides of the picture."""
    large = np.stack([codes["size"], codes["size2"]], 1) == 1
    jitter = u[:, :4].reshape(-1, 2, 2) - np.float32(0.5)
    pair = codes["thing2"] >= 0
    half = np.where(large, 0.37 + 0.06 * u[:, 4:6], 0.205 + 0.04 * u[:, 4:6])
    half = np.where(pair[:, None], np.where(large, 0.24, 0.165) + 0.02 * u[:, 4:6], half)
    side = (codes["place"] - 1)[:, None]
    x = 0.5 + side * np.where(large, 0.13, 0.25) + 0.07 * jitter[..., 0]
    y = 0.94 - 0.9 * half + np.where(large, 0.04, 0.12) * jitter[..., 1]
    beside = np.where(codes["relation"] == 0, -1.0, 1.0)[:, None] * np.array([[1.0, -1.0]])
    stacked = np.where(codes["relation"] == 2, -1.0, 1.0)[:, None] * np.array([[1.0, -1.0]])
    flat = codes["relation"][:, None] < 2
    x2 = np.where(flat, 0.5 + 0.235 * beside, 0.5) + 0.05 * jitter[..., 0]
    y2 = np.where(flat, 0.86 - 0.8 * half, 0.5 + 0.235 * stacked) + 0.05 * jitter[..., 1]
    x, y = np.where(pair[:, None], x2, x), np.where(pair[:, None], y2, y)
    return np.stack([x, y, half], 2).astype(np.float32)


def training_batch(seed: int, step: int, size: int) -> tuple[Images, list[str]]:
    """Batch `step` of the training stream: (size, 32, 32, 3) uint8 pictures and captions."""
    index = np.arange(step * size, (step + 1) * size, dtype=np.int64)
    drawn = draws(seed, index)
    return render(drawn, seed=seed, index=index), drawn.captions()


def said_of(prompts: Sequence[str]) -> Codes:
    """(N, 10) codes of what prompts say, -1 where nothing. Raises BadInput for another world's."""
    return codes_of([scene_of(p) for p in prompts])


def completed(said: Codes, *, seed: int, index: Codes) -> Draws:
    """Scenes that captions allow: what they leave unsaid is drawn by (seed, index)."""
    pair = said[:, COLUMNS.index("thing2")] >= 0
    u = uniforms(seed, index, len(COLUMNS), stream=4).astype(np.float64)
    free = _applicable((u * _SIZES).astype(np.int64), pair)
    return Draws(np.where(said >= 0, said, free), said, np.zeros(len(said), np.int64))


def renders_of(prompts: Sequence[str], *, seed: int, first: int = 0) -> Images:
    """One real picture a prompt, its unsaid attributes drawn at random."""
    index = np.arange(first, first + len(prompts), dtype=np.int64)
    return render(completed(said_of(prompts), seed=seed, index=index), seed=seed, index=index)
