"""Captioned pictures by (seed, index): the training stream and renders of given prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from distillbench.world.captions import WORDINGS, caption, scene_of
from distillbench.world.render import Scenes, draw, uniforms
from distillbench.world.scene import (
    PAIR_COUNT,
    POSITIONS,
    RELATION_POSITIONS,
    RELATIONS,
    SINGLE_COUNT,
    Codes,
    Scene,
    combination_of,
    is_heldout,
    pair_codes,
    pair_scene,
    single_codes,
    single_scene,
)

PAIR_SHARE = 0.15
Images = NDArray[np.uint8]
_SIDES = np.array(
    [[POSITIONS.index(p) for p in RELATION_POSITIONS[r]] for r in RELATIONS], np.int64
)


@dataclass(frozen=True)
class Draws:
    """Scenes drawn by index: kind, combination number and wording, (N,) each."""

    pair: NDArray[np.bool_]
    combination: Codes
    wording: Codes

    def scenes(self) -> list[Scene]:
        """The scenes themselves."""
        singles, pairs = single_codes(self.combination % SINGLE_COUNT), pair_codes(self.combination)
        return [
            pair_scene(two) if is_pair else single_scene(one)
            for is_pair, one, two in zip(self.pair, singles, pairs, strict=True)
        ]

    def captions(self) -> list[str]:
        """The captions, each in its own wording."""
        return [
            caption(s, wording=int(w)) for s, w in zip(self.scenes(), self.wording, strict=True)
        ]


@cache
def single_split(*, heldout: bool) -> Codes:
    """Combination numbers of one-object scenes in the training or in the held-out split."""
    every = np.arange(SINGLE_COUNT, dtype=np.int64)
    chosen: Codes = every[is_heldout(every, pair=False) == heldout]
    return chosen


def draws(seed: int, index: Codes, *, heldout: bool = False, pairs: float = PAIR_SHARE) -> Draws:
    """Scenes of one split by (seed, index); `pairs` is the share of two-object scenes."""
    u = uniforms(seed, index, 11).astype(np.float64)
    pool = single_split(heldout=heldout)
    single = pool[(u[:, 0] * len(pool)).astype(np.int64)]
    # The first of eight tries that falls in the split; a fixed one of it if none does.
    tries = (u[:, 3:] * PAIR_COUNT).astype(np.int64)
    right = is_heldout(tries, pair=True) == heldout
    pair = tries[np.arange(len(index)), right.argmax(axis=1)]
    is_pair = (u[:, 1] < pairs) & right.any(axis=1)
    wording = (u[:, 2] * WORDINGS).astype(np.int64)
    return Draws(is_pair, np.where(is_pair, pair, single), wording)


def scenes_of(drawn: Draws) -> Scenes:
    """The renderer's codes of drawn scenes."""
    one, two = single_codes(drawn.combination % SINGLE_COUNT), pair_codes(drawn.combination)
    none = np.full_like(one[:, 0], -1)
    single = {"shape": 0, "colour": 1, "size": 2}
    second = {"shape": (5, 8), "colour": (4, 7), "size": (3, 6)}
    columns = {
        key: np.where(
            drawn.pair[:, None],
            two[:, list(second[key])],
            np.stack([one[:, single[key]], none], 1),
        )
        for key in single
    }
    alone = np.stack([one[:, 3], none], 1)
    return Scenes(
        style=np.where(drawn.pair, two[:, 0], one[:, 5]),
        background=np.where(drawn.pair, two[:, 1], one[:, 4]),
        position=np.where(drawn.pair[:, None], _SIDES[two[:, 2]], alone),
        **columns,
    )


def render(drawn: Draws, *, seed: int, index: Codes) -> Images:
    """(N, 32, 32, 3) uint8 pictures of drawn scenes."""
    return draw(scenes_of(drawn), seed=seed, index=index)


def training_batch(seed: int, step: int, size: int) -> tuple[Images, list[str]]:
    """Batch `step` of the training stream: (size, 32, 32, 3) uint8 pictures and captions."""
    index = np.arange(step * size, (step + 1) * size, dtype=np.int64)
    drawn = draws(seed, index)
    return render(drawn, seed=seed, index=index), drawn.captions()


def draws_of(prompts: Sequence[str]) -> Draws:
    """The scenes that prompts describe, as draws (wording 0)."""
    scenes = [scene_of(p) for p in prompts]
    numbers = np.array([combination_of(s) for s in scenes], np.int64)
    pair = np.array([len(s.things) == 2 for s in scenes], np.bool_)
    return Draws(pair, numbers, np.zeros_like(numbers))


def renders_of(prompts: Sequence[str], *, seed: int, first: int = 0) -> Images:
    """One render a prompt: the real pictures that samples for those prompts compare with."""
    index = np.arange(first, first + len(prompts), dtype=np.int64)
    return render(draws_of(prompts), seed=seed, index=index)
