"""Clips of the picture world by (seed, index, frame): things drift and bob, the camera pans.

A frame is a function of its number alone, so that a longer clip only goes on. In the middle of the
first nine frames everything is where the caption says; nothing moves so far that it would be wrong
in the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from distillbench.drawings.render import draw
from distillbench.drawings.shapes import Map
from distillbench.drawings.uniform import uniforms
from distillbench.world.data import Draws, completed, draws, said_of, scenes_at
from distillbench.world.scene import Codes

__all__ = ["FRAMES", "Clips", "clip_batch", "clips_of", "render_clips"]

FRAMES: Final = 9
_MIDDLE: Final = FRAMES // 2
_DRIFT, _BOB, _GROWTH, _PAN = 0.13, 0.05, 0.1, 0.22  # at most, in sides, over nine frames
Clips = NDArray[np.uint8]


def render_clips(drawn: Draws, *, seed: int, index: Codes, frames: int = FRAMES) -> Clips:
    """(N, frames, 32, 32, 3) uint8 clips of drawn scenes."""
    scenes = scenes_at(drawn, seed=seed, index=index)
    u = uniforms(seed, index, 16, stream=5) * np.float32(2) - np.float32(1)
    shown = []
    for frame in range(frames):
        place, camera = _moved(scenes.place, u, frame)
        moved = replace(scenes, place=place)
        shown.append(draw(moved, seed=seed, index=index, camera=camera))
    return np.stack(shown, 1)


def _moved(place: Map, u: Map, frame: int) -> tuple[Map, Map]:
    """Places (N, 2, 3) and camera (N, 2) of one frame."""
    time = np.float32((frame - _MIDDLE) / (FRAMES - 1))
    # Things: a steady drift to a side, a bob up and down, growing or shrinking.
    drift = _DRIFT * u[:, 0:2] * time * 2
    turn = np.float32(np.pi) * (u[:, 2:4] + (3 + u[:, 4:6]) * time)
    bob = _BOB * np.abs(u[:, 6:8]) * (np.sin(turn) - np.sin(np.float32(np.pi) * u[:, 2:4]))
    growth = 1 + _GROWTH * u[:, 8:10] * time * 2
    moved = place + np.stack([drift, bob, np.zeros_like(bob)], 2)
    moved[..., 2] *= growth
    pan = np.sin(time * np.float32(np.pi / 2))  # slower towards both ends
    camera = np.stack([_PAN * u[:, 10] * pan, 0.2 * _PAN * u[:, 11] * pan], 1)
    return moved.astype(np.float32), camera.astype(np.float32)


def clip_batch(seed: int, step: int, size: int, *, frames: int = FRAMES) -> tuple[Clips, list[str]]:
    """Batch `step` of the training stream: (size, frames, 32, 32, 3) uint8 clips and captions."""
    index = np.arange(step * size, (step + 1) * size, dtype=np.int64)
    drawn = draws(seed, index)
    return render_clips(drawn, seed=seed, index=index, frames=frames), drawn.captions()


def clips_of(prompts: Sequence[str], *, seed: int, first: int = 0, frames: int = FRAMES) -> Clips:
    """One real clip a prompt, its unsaid attributes drawn at random."""
    index = np.arange(first, first + len(prompts), dtype=np.int64)
    drawn = completed(said_of(prompts), seed=seed, index=index)
    return render_clips(drawn, seed=seed, index=index, frames=frames)
