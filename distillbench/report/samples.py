"""Read stored samples without torch, a few at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillbench.errors import ArtifactError
from distillbench.store.samples import TRAJECTORY

if TYPE_CHECKING:
    import numpy as np

__all__ = ["pick_balanced", "read_lines", "read_samples", "read_trajectory"]

Line = Mapping[str, Any]


def read_lines(folder: Path) -> Sequence[Line]:
    """samples.jsonl: one {"index", "prompt", "category"} per sample, in order."""
    try:
        return _parsed((folder / "samples.jsonl").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{folder.name}/samples.jsonl: not readable") from error


@lru_cache(maxsize=64)
def _parsed(text: str) -> Sequence[Line]:
    """The lines of a text: one object for all rows that were sampled for the same prompts."""
    return tuple(json.loads(line) for line in text.splitlines() if line)


def pick_balanced(lines: Sequence[Line], count: int) -> list[int]:
    """Positions of the first `count` distinct prompts, taken from each category in turn."""
    queues: dict[str, dict[str, int]] = {}
    for position, line in enumerate(lines):
        queues.setdefault(line["category"], {}).setdefault(line["prompt"], position)
    turns = zip_longest(*(queue.values() for queue in queues.values()))
    return [position for turn in turns for position in turn if position is not None][:count]


def read_samples(folder: Path, positions: Sequence[int]) -> list[np.ndarray]:
    """The samples at `positions`, in that order: (H, W, 3) or (frames, H, W, 3) uint8, (d,) float.

    Raises ArtifactError when the shards are missing, truncated or shorter than that.
    """
    from safetensors import SafetensorError, safe_open

    found: dict[int, np.ndarray] = {}
    start = 0
    try:
        for shard in sorted(folder.glob("samples-*.safetensors")):
            with safe_open(shard, framework="numpy") as file:
                rows = file.get_slice("samples")
                size = rows.get_shape()[0]
                for position in positions:
                    if start <= position < start + size:
                        place = position - start
                        found[position] = rows[place : place + 1][0]
            start += size
        return [found[position] for position in positions]
    except (OSError, SafetensorError, KeyError) as error:
        raise ArtifactError(f"{folder.name}: samples are missing or truncated") from error


def read_trajectory(folder: Path, position: int, evaluation: int) -> np.ndarray:
    """The clean prediction of an evaluation, from 0, of the sample at `position`.

    Raises ArtifactError when it was not kept, or cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / TRAJECTORY
    if not path.exists():
        raise ArtifactError("keeps no clean predictions: sample.trajectory")
    try:
        with safe_open(path, framework="numpy") as file:
            kept = file.get_slice("samples")
            count, evaluations = kept.get_shape()[:2]
            if position >= count or evaluation >= evaluations:
                raise ArtifactError(f"keeps {count} clean predictions, sample {position} is none")
            found: np.ndarray = kept[position : position + 1, evaluation : evaluation + 1][0][0]
            return found
    except (OSError, SafetensorError, KeyError) as error:
        raise ArtifactError(f"{folder.name}: {TRAJECTORY} is truncated") from error
