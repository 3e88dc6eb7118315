"""Prompt sets of the picture world, fixed by rule and named by their sha256 (no torch here)."""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np

from distillbench.api.prompts import PromptSet
from distillbench.errors import BadInput
from distillbench.world.captions import WORDINGS, caption, scene_of
from distillbench.world.data import draws
from distillbench.world.scene import LEVELS, Codes, scenes_of

__all__ = ["PROMPT_SETS", "prompt_set", "scene_of"]

PROMPT_SETS: Final = (
    "world-eval", "world-train", "world-heldout", "world-video-eval", "world-video-train",
)  # fmt: skip
EVAL_PER_STYLE: Final = 256
TRAIN_PROMPTS: Final = 4096
VIDEO_EVAL_PER_STYLE: Final = 64
VIDEO_TRAIN_PROMPTS: Final = 2048
HELDOUT_SINGLES: Final = 2048
HELDOUT_PAIRS: Final = 512
NO_STYLE: Final = "any style"


@cache
def prompt_set(name: str) -> PromptSet:
    """The prompt set of that name.

    `world-eval`: 1,024 captions of held-out scenes of one thing, in full, in part or bare but for
    the style; styles in turn, so that any first 4 k prompts are balanced. `world-heldout`: 2,048
    such captions and 512 of two things. `world-train`: 4,096 captions of the training stream.
    `world-video-eval` (256) and `world-video-train` (2,048) are such sets for clips. Raises
    BadInput for another name.
    """
    if name == "world-eval":
        said = _interleaved(_distinct(13, 4096, pairs=0.0, held=True, style=True), EVAL_PER_STYLE)
    elif name == "world-heldout":
        single = _distinct(14, 8192, pairs=0.0, held=True, style=True)[:HELDOUT_SINGLES]
        pair = _distinct(15, 2048, pairs=1.0, held=True, style=True)[:HELDOUT_PAIRS]
        said = np.concatenate([single, pair])
    elif name == "world-train":
        said = _distinct(12, 16384, pairs=0.2, held=False, style=False)[:TRAIN_PROMPTS]
    elif name == "world-video-eval":
        drawn = _distinct(16, 1024, pairs=0.0, held=True, style=True)
        said = _interleaved(drawn, VIDEO_EVAL_PER_STYLE)
    elif name == "world-video-train":
        said = _distinct(17, 8192, pairs=0.2, held=False, style=False)[:VIDEO_TRAIN_PROMPTS]
    else:
        raise BadInput(f"unknown prompt set {name!r}; there are {', '.join(PROMPT_SETS)}")
    turns = (i // len(LEVELS["style"]) % WORDINGS for i in range(len(said)))
    scenes = scenes_of(said)
    prompts = tuple(caption(s, wording=turn) for s, turn in zip(scenes, turns, strict=True))
    return PromptSet(name, prompts, tuple(s.style or NO_STYLE for s in scenes))


def _distinct(seed: int, count: int, *, pairs: float, held: bool, style: bool) -> Codes:
    """What `count` drawn captions say, each once, in the order of the first."""
    said = draws(seed, np.arange(count), held=held, pairs=pairs, style=style).said
    _, first = np.unique(said, axis=0, return_index=True)
    out: Codes = said[np.sort(first)]
    return out


def _interleaved(said: Codes, each: int) -> Codes:
    columns = [said[said[:, 0] == style][:each] for style in range(len(LEVELS["style"]))]
    assert all(len(c) == each for c in columns), "too few captions of a style"
    out: Codes = np.stack(columns, 1).reshape(-1, said.shape[1])
    return out
