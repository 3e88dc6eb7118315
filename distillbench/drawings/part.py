"""What a drawing is made of: parts with an outline and a paint, and the frame they are drawn in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np

from distillbench.drawings.shapes import Map, turned

__all__ = ["PAINTS", "Drawing", "Frame", "Paint", "Part"]

Paint: TypeAlias = Literal[
    "main", "dark", "light", "accent", "white", "black", "wood", "leaf", "glass", "metal",
    "fire", "skin",
]  # fmt: skip
PAINTS: Final[dict[str, tuple[float, float, float]]] = {
    "white": (0.95, 0.95, 0.93),
    "black": (0.10, 0.10, 0.13),
    "wood": (0.48, 0.31, 0.18),
    "leaf": (0.24, 0.55, 0.24),
    "glass": (0.62, 0.83, 0.93),
    "metal": (0.62, 0.65, 0.70),
    "fire": (1.00, 0.72, 0.20),
    "skin": (0.96, 0.84, 0.66),
}
"""RGB of the paints that do not follow the thing's colour."""


@dataclass(frozen=True)
class Part:
    """One painted area.

    Attributes:
        distance: signed distance to its outline in units of the thing, (M, H, W).
        paint: the thing's colour (main, dark, light), a second colour (accent), or a fixed one.
        round: how much it bulges: 0 is flat card, 1 a ball; read by shading styles.
    """

    distance: Map
    paint: Paint
    round: float = 0.6


@dataclass(frozen=True)
class Frame:
    """A thing's own coordinates: the unit square [-1, 1]^2, u to the right and v down.

    Attributes:
        u, v: coordinates of the pixels, (M, H, W).
        numbers: (M, K) uniforms in [0, 1), the free parameters of the drawing.
    """

    u: Map
    v: Map
    numbers: Map

    def between(self, slot: int, low: float, high: float) -> Map:
        """Parameter `slot` of each picture, in [low, high): (M, 1, 1)."""
        return _col(low + (high - low) * self.numbers[:, slot])

    def whole(self, slot: int, low: int, high: int) -> Map:
        """A whole number in low..high: (M, 1, 1)."""
        return _col(low + np.floor((high - low + 1) * self.numbers[:, slot]))

    def some(self, slot: int, share: float) -> Map:
        """0 where the picture has a feature that `share` of them have, else far: (M, 1, 1).

        Added to a distance it leaves the part out.
        """
        return _col(np.where(self.numbers[:, slot] < share, 0.0, 9.0))

    def turn(self, slot: int, degrees: float) -> Frame:
        """The frame turned by up to `degrees` either way."""
        angle = self.between(slot, -1.0, 1.0) * np.float32(np.deg2rad(degrees))
        return Frame(*turned(self.u, self.v, angle), self.numbers)


Drawing: TypeAlias = Callable[[Frame], list[Part]]


def _col(values: object) -> Map:
    return np.asarray(values, dtype=np.float32)[:, None, None]
