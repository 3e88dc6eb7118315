"""Grounds that things stand on: six places with texture, clutter and a light of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from distillbench.drawings.shapes import Map, circle, convex, ellipse, union

__all__ = ["GROUNDS", "ripple"]


_BLUE_SHADE: Final = np.array((0.1, 0.07, 0.02), np.float32)[:, None, None]


class Scenery:
    """The canvas of a ground: pixel coordinates, free parameters, and paint.

    Attributes:
        x, y: pixel coordinates divided by the side, from 0 to 1, (1, H, W).
        numbers: (M, K) uniforms in [0, 1).
        image: (M, 3, H, W), painted back to front.
    """

    def __init__(self, x: Map, y: Map, numbers: Map) -> None:
        self.x, self.y, self.numbers = x, y, numbers
        self.soft = np.float32(1 / x.shape[-1])
        self.image = np.zeros((len(numbers), 3, *x.shape[-2:]), np.float32)

    def between(self, slot: int, low: float, high: float) -> Map:
        """Parameter `slot`, (M, 1, 1)."""
        values = low + (high - low) * self.numbers[:, slot]
        return np.asarray(values, np.float32)[:, None, None]

    def paint(self, rgb: tuple[float, float, float], slot: int, spread: float = 0.08) -> Map:
        """A colour with jitter from three parameters, (M, 3, 1, 1)."""
        shift = spread * (self.numbers[:, slot : slot + 3] - 0.5)
        return (np.asarray(rgb, np.float32) + shift.astype(np.float32))[:, :, None, None]

    def fill(self, top: Map, bottom: Map) -> None:
        """A vertical gradient over everything."""
        down = np.clip(self.y, 0, 1)[:, None]
        self.image = (top + (bottom - top) * down).astype(np.float32)

    def lay(self, distance: Map, colour: Map, alpha: Map | float = 1.0, soft: float = 1.0) -> None:
        """Paint where `distance` (in sides) is negative; `soft` is the edge's width in pixels."""
        cover = np.clip(0.5 - distance / (self.soft * np.float32(soft)), 0, 1) * alpha
        self.image = self.image + (colour - self.image) * cover[:, None].astype(np.float32)


def ripple(x: Map, y: Map, turn: Map, rate: Map, phase: Map) -> Map:
    """A plane wave in [-1, 1]: direction and phase in turns, `rate` waves a side."""
    angle = np.float32(2 * np.pi) * turn
    along = np.cos(angle) * x + np.sin(angle) * y
    wave: Map = np.sin(np.float32(2 * np.pi) * (rate * along + phase)).astype(np.float32)
    return wave


def night(s: Scenery) -> None:
    """A dark sky with stars, perhaps a moon, and a hill."""
    s.fill(s.paint((0.05, 0.06, 0.17), 0), s.paint((0.16, 0.16, 0.34), 3))
    for k in range(6):
        star = circle(s.x, s.y, s.between(6 + k, 0.02, 0.98), s.between(16 - k, 0.02, 0.62), 0.012)
        s.lay(star, s.paint((0.95, 0.93, 0.8), 3), s.between(9 + k, 0.2, 1.0))
    moon = circle(
        s.x, s.y, s.between(18, 0.1, 0.9), s.between(19, 0.08, 0.28), s.between(20, 0.05, 0.09)
    )
    s.lay(moon, s.paint((0.96, 0.93, 0.78), 0), np.where(s.between(21, 0, 1) < 0.5, 1.0, 0.0))
    hill = 0.07 * ripple(
        s.x, s.y, s.between(22, 0, 0), s.between(22, 0.5, 1.2), s.between(23, 0, 1)
    )
    s.lay(s.between(17, 0.68, 0.82) + hill - s.y, s.paint((0.07, 0.12, 0.16), 12, 0.06))


def meadow(s: Scenery) -> None:
    """Sky over grass with tufts, perhaps a cloud."""
    s.fill(s.paint((0.50, 0.74, 0.93), 0), s.paint((0.83, 0.92, 0.95), 3))
    x, y = s.between(6, 0.1, 0.9), s.between(7, 0.08, 0.25)
    cloud = union(
        ellipse(s.x, s.y, x, y, 0.13, 0.05), ellipse(s.x, s.y, x + 0.07, y - 0.03, 0.08, 0.05)
    )
    s.lay(cloud, s.paint((0.97, 0.98, 0.98), 0, 0.02), s.between(8, 0.3, 1.0), 2.0)
    roll = 0.04 * ripple(s.x, s.y, s.between(9, 0, 0), s.between(9, 0.6, 1.6), s.between(10, 0, 1))
    edge = s.between(11, 0.5, 0.72) + roll
    s.lay(edge - s.y, s.paint((0.42, 0.66, 0.30), 12, 0.14))
    blades = ripple(s.x, s.y, s.between(15, 0.0, 0.06), s.between(16, 7, 12), s.between(17, 0, 1))
    dark = (s.y > edge) * (0.5 + 0.5 * blades) * s.between(18, 0.1, 0.28)
    s.image = (s.image * (1 - dark[:, None])).astype(np.float32)
    for k in range(3):
        dot = circle(s.x, s.y, s.between(19 + k, 0.03, 0.97), s.between(22 - k, 0.76, 0.96), 0.022)
        s.lay(dot, s.paint((0.95, 0.85, 0.45), 3 * k, 0.5), s.between(10 + k, 0, 1.2).clip(0, 1))


def beach(s: Scenery) -> None:
    """Sky, a strip of sea with glitter, and sand with pebbles."""
    s.fill(s.paint((0.62, 0.83, 0.93), 0), s.paint((0.92, 0.93, 0.88), 3))
    sea = s.between(6, 0.36, 0.5)
    s.lay(sea - s.y, s.paint((0.17, 0.50, 0.65), 7, 0.12))
    waves = ripple(s.x, s.y, s.between(10, 0.23, 0.27), s.between(11, 8, 13), s.between(12, 0, 1))
    light = (s.y > sea) * np.clip(waves, 0, 1) * s.between(13, 0.1, 0.3)
    s.image = (s.image + light[:, None] * 0.5).astype(np.float32)
    curve = 0.05 * ripple(
        s.x, s.y, s.between(14, 0, 0), s.between(14, 0.4, 1.0), s.between(15, 0, 1)
    )
    shore = s.between(16, 0.58, 0.72) + curve
    s.lay(shore - 0.03 - s.y, s.paint((0.93, 0.96, 0.95), 0, 0.03), 0.8, 1.5)
    s.lay(shore - s.y, s.paint((0.88, 0.76, 0.55), 17, 0.12))
    for k in range(4):
        stone = ellipse(
            s.x, s.y, s.between(19 + k, 0.03, 0.97), s.between(22 - k, 0.8, 0.97), 0.03, 0.018
        )
        s.lay(stone, s.paint((0.62, 0.55, 0.48), 3 * k, 0.3), s.between(8 + k, 0, 1.2).clip(0, 1))


def snow(s: Scenery) -> None:
    """A pale sky, mounds of snow, firs far away, flakes."""
    s.fill(s.paint((0.66, 0.74, 0.84), 0), s.paint((0.88, 0.92, 0.97), 3))
    base = s.between(6, 0.55, 0.7)
    for k in range(3):
        x, h = s.between(7 + k, 0.02, 0.98), s.between(10 + k, 0.1, 0.22)
        fir = convex(
            s.x, s.y, (x, base - h), (x + h * 0.4, base + 0.04), (x - h * 0.4, base + 0.04)
        )
        s.lay(fir, s.paint((0.35, 0.50, 0.50), 13, 0.1), s.between(7 + k, 0.0, 1.3).clip(0, 1), 1.5)
    mound = 0.05 * ripple(
        s.x, s.y, s.between(16, 0, 0), s.between(16, 0.5, 1.3), s.between(17, 0, 1)
    )
    s.lay(base + mound - s.y, s.paint((0.95, 0.96, 0.99), 18, 0.05))
    shade = (s.y > base) * (0.5 + 0.5 * ripple(
        s.x, s.y, s.between(19, 0.1, 0.2), s.between(20, 1.0, 2.5), s.between(21, 0, 1)
    ))  # fmt: skip
    s.image = (s.image - shade[:, None] * _BLUE_SHADE).astype(np.float32)
    for k in range(7):
        flake = circle(s.x, s.y, s.between(3 + k, 0.02, 0.98), s.between(22 - k, 0.02, 0.98), 0.016)
        s.lay(flake, s.paint((1.0, 1.0, 1.0), 0, 0.0), 0.9)


def city(s: Scenery) -> None:
    """Dusk over two rows of houses with lit windows, and a street."""
    s.fill(s.paint((0.40, 0.32, 0.52), 0, 0.14), s.paint((0.95, 0.66, 0.48), 3, 0.14))
    for row, (low, high, tone) in enumerate(((0.22, 0.42, 0.36), (0.34, 0.55, 0.22))):
        wide = s.between(6 + row, 4.0, 7.0)
        column = np.floor(s.x * wide + s.between(8 + row, 0, 1))
        step = np.mod(np.sin(column * 12.9898 + s.between(10 + row, 0, 9)) * 43.7585, 1.0)
        skyline = low + (high - low) * step
        s.lay(
            (skyline - s.y).astype(np.float32), s.paint((tone, tone * 0.9, tone * 1.25), 12, 0.08)
        )
        pane = np.mod(s.x * wide * 2 + s.between(8 + row, 0, 1) * 2, 1.0), np.mod(s.y * 9, 1.0)
        lit = (
            (np.abs(pane[0] - 0.5) < 0.24) & (np.abs(pane[1] - 0.5) < 0.26) & (s.y > skyline + 0.05)
        )
        some = np.mod(np.sin(np.floor(s.x * wide * 2) * 7.13 + np.floor(s.y * 9) * 3.71
                             + s.between(15, 0, 9)) * 91.7, 1.0) < 0.4  # fmt: skip
        glow = (lit & some)[:, None] * np.float32(0.5 + 0.2 * row)
        s.image = (s.image + (s.paint((1.0, 0.82, 0.45), 16) - s.image) * glow).astype(np.float32)
    road = s.between(19, 0.72, 0.82)
    s.lay(road - s.y, s.paint((0.36, 0.35, 0.40), 20, 0.06))
    s.lay(np.abs(s.y - road) - 0.018, s.paint((0.62, 0.60, 0.60), 20, 0.06))


def room(s: Scenery) -> None:
    """A papered wall, a skirting, a floor of boards, perhaps a picture on the wall."""
    s.fill(s.paint((0.86, 0.78, 0.68), 0, 0.3), s.paint((0.78, 0.70, 0.60), 0, 0.3))
    stripe = ripple(
        s.x, s.y, s.between(3, 0, 0.25).round(0) * 0, s.between(4, 4, 9), s.between(5, 0, 1)
    )
    dots = stripe * ripple(
        s.x, s.y, s.between(3, 0.25, 0.25), s.between(4, 4, 9), s.between(6, 0, 1)
    )
    paper = np.where(s.between(7, 0, 1) < 0.5, stripe, dots) * s.between(8, 0.02, 0.09)
    s.image = (s.image * (1 + paper[:, None])).astype(np.float32)
    x, y = s.between(9, 0.12, 0.88), s.between(10, 0.14, 0.3)
    frame = np.maximum(np.abs(s.x - x) - s.between(11, 0.07, 0.12), np.abs(s.y - y) - 0.08)
    there = np.where(s.between(12, 0, 1) < 0.6, 1.0, 0.0)
    s.lay(frame.astype(np.float32), s.paint((0.40, 0.28, 0.18), 13), there)
    s.lay((frame + 0.025).astype(np.float32), s.paint((0.65, 0.75, 0.75), 13, 0.5), there)
    floor = s.between(16, 0.62, 0.78)
    s.lay(floor - s.y, s.paint((0.58, 0.40, 0.26), 17, 0.14))
    boards = ripple(s.x, s.y, s.between(20, 0.24, 0.26), s.between(21, 8, 11), s.between(22, 0, 1))
    dark = (s.y > floor) * np.clip(boards, 0, 1) * 0.22
    s.image = (s.image * (1 - dark[:, None])).astype(np.float32)
    s.lay(np.abs(s.y - floor) - 0.018, s.paint((0.92, 0.90, 0.86), 0, 0.05))


GROUNDS: Final[dict[str, Callable[[Scenery], None]]] = {
    "night": night, "meadow": meadow, "beach": beach, "snow": snow, "city": city, "room": room,
}  # fmt: skip
