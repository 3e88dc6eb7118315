"""Prompt sets of the tiny world, fixed by rule and named by their sha256 (no torch here)."""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np

from distillbench.api.prompts import PromptSet
from distillbench.errors import BadInput
from distillbench.world.captions import WORDINGS, caption, scene_of
from distillbench.world.data import draws, single_split
from distillbench.world.scene import STYLES, Scene, heldout, single_codes, single_scene, splitmix

__all__ = ["PROMPT_SETS", "prompt_set", "scene_of"]

PROMPT_SETS: Final = ("world-eval", "world-train", "world-heldout")
EVAL_PER_STYLE: Final = 256
TRAIN_PROMPTS: Final = 4096
HELDOUT_PAIRS: Final = 256


@cache
def prompt_set(name: str) -> PromptSet:
    """The prompt set of that name.

    `world-eval`: 1,024 held-out one-object captions, styles in turn, so that any first 4 k
    prompts are balanced. `world-heldout`: every held-out one-object combination once, and 256
    held-out two-object captions. `world-train`: 4,096 captions of the training stream.
    Raises BadInput for another name.
    """
    if name == "world-eval":
        scenes = _interleaved(_heldout_singles())
    elif name == "world-heldout":
        scenes = _heldout_singles() + _heldout_pairs()
    elif name == "world-train":
        return _train()
    else:
        raise BadInput(f"unknown prompt set {name!r}; there are {', '.join(PROMPT_SETS)}")
    prompts = tuple(caption(s, wording=i // len(STYLES) % WORDINGS) for i, s in enumerate(scenes))
    return PromptSet(name, prompts, tuple(s.style for s in scenes))


def _heldout_singles() -> list[Scene]:
    numbers = single_split(heldout=True)
    order = np.argsort(splitmix(numbers.astype(np.uint64)), kind="stable")
    return [single_scene(codes) for codes in single_codes(numbers[order])]


def _interleaved(scenes: list[Scene]) -> list[Scene]:
    columns = [[s for s in scenes if s.style == style][:EVAL_PER_STYLE] for style in STYLES]
    assert all(len(c) == EVAL_PER_STYLE for c in columns), "the split is too small"
    return [s for row in zip(*columns, strict=True) for s in row]


def _heldout_pairs() -> list[Scene]:
    drawn = draws(11, np.arange(2 * HELDOUT_PAIRS), heldout=True, pairs=1.0)
    scenes = dict.fromkeys(s for s in drawn.scenes() if len(s.things) == 2 and heldout(s))
    return list(scenes)[:HELDOUT_PAIRS]


def _train() -> PromptSet:
    drawn = draws(12, np.arange(2 * TRAIN_PROMPTS))
    named = dict.fromkeys(
        (c, s.style) for c, s in zip(drawn.captions(), drawn.scenes(), strict=True)
    )
    chosen = list(named)[:TRAIN_PROMPTS]
    return PromptSet("world-train", tuple(c for c, _ in chosen), tuple(s for _, s in chosen))
