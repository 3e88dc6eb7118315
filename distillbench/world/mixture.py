"""The one fixed Gaussian mixture of the exact world: conditions, modes and weights."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from distillbench.errors import BadInput

if TYPE_CHECKING:
    pass

__all__ = ["CONDITIONS", "MODES", "Mixture", "labels_of", "mixture"]


CONDITIONS = 8


MODES = 4


_WORLD_SEED = 0


@dataclass(frozen=True)
class Mixture:
    """The mixture of each condition.

    Attributes:
        centres: [condition][mode] -> (x, y); distinct cells of a 4 x 4 grid with spacing 0.8, each
            moved by up to 0.1.
        weights: [condition][mode], uniform in [0.3, 1] and normalised.
        std: standard deviation of every mode, in both directions.
    """

    centres: tuple[tuple[tuple[float, float], ...], ...]
    weights: tuple[tuple[float, ...], ...]
    std: float = 0.08


@cache
def mixture() -> Mixture:
    """The one fixed world; the same on every machine and Python version."""
    rng = random.Random(_WORLD_SEED)  # of its methods, only random() is promised to be stable
    centres, shares = [], []
    for _ in range(CONDITIONS):
        cells = sorted(range(16), key=[rng.random() for _ in range(16)].__getitem__)[:MODES]
        centres.append(tuple(
            (-1.2 + 0.8 * (cell % 4) + _jitter(rng), -1.2 + 0.8 * (cell // 4) + _jitter(rng))
            for cell in cells
        ))  # fmt: skip
        raw = [0.3 + 0.7 * rng.random() for _ in range(MODES)]
        shares.append(tuple(w / sum(raw) for w in raw))
    return Mixture(tuple(centres), tuple(shares))


def _jitter(rng: random.Random) -> float:
    return 0.2 * rng.random() - 0.1


def labels_of(prompts: Sequence[str]) -> list[int]:
    """Condition numbers of prompts "condition 0" to "condition 7"; 8 for "", the mixture of all.

    Raises:
        BadInput: any other prompt.
    """
    known = {f"condition {k}": k for k in range(CONDITIONS)} | {"": CONDITIONS}
    for prompt in prompts:
        if prompt not in known:
            raise BadInput(f"prompt {prompt!r}: the gmm world knows condition 0 to condition 7")
    return [known[prompt] for prompt in prompts]
