"""Four ways to render the same drawing: flat ink, glow, brush and lamp.

A style paints the parts of one thing over a canvas; it sees distances in pixels and colours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from distillbench.drawings.grounds import ripple
from distillbench.drawings.part import PAINTS, Part
from distillbench.drawings.shapes import Map, union

__all__ = ["STYLES", "Subject", "finish", "wobble"]


@dataclass(frozen=True)
class Subject:
    """One thing in each of M pictures, as a style sees it.

    Attributes:
        parts: back to front, distances in units of the thing.
        scale: pixels a unit, (M, 1, 1).
        u, v: the thing's coordinates, (M, H, W).
        main, accent: its colours, (M, 3).
        light: direction of the light in turns, (M, 1, 1).
        numbers: (M, K) uniforms of the style.
    """

    parts: Sequence[Part]
    scale: Map
    u: Map
    v: Map
    main: Map
    accent: Map
    light: Map
    numbers: Map

    def colour(self, part: Part) -> Map:
        """(M, 3, 1, 1)."""
        if part.paint in PAINTS:
            fixed = np.asarray(PAINTS[part.paint], np.float32)
            return np.broadcast_to(fixed, self.main.shape)[:, :, None, None]
        rgb = self.accent if part.paint == "accent" else self.main
        rgb = {"dark": rgb * 0.68, "light": 0.45 * rgb + 0.55}.get(part.paint, rgb)
        return np.asarray(rgb, np.float32)[:, :, None, None]

    def pixels(self, distance: Map) -> Map:
        """A distance in pixels."""
        return distance * self.scale

    @property
    def whole(self) -> Map:
        """Distance to the outline of all parts, in pixels."""
        return self.pixels(union(*(part.distance for part in self.parts)))

    def number(self, slot: int, low: float, high: float) -> Map:
        """Parameter `slot`, (M, 1, 1)."""
        values = low + (high - low) * self.numbers[:, slot]
        return np.asarray(values, np.float32)[:, None, None]


def cover(distance: Map, soft: float = 1.0) -> Map:
    """Coverage of a pixel from its signed distance in pixels."""
    out: Map = np.clip(0.5 - distance / np.float32(soft), 0, 1)
    return out


def over(canvas: Map, paint: Map, alpha: Map) -> Map:
    """Paint laid over a canvas."""
    return (canvas + (paint - canvas) * alpha[:, None]).astype(np.float32)


def animation(canvas: Map, s: Subject) -> Map:
    """Flat paint in two tones, dark ink round the thing and thin ink between its parts."""
    ink = np.float32(0.10) + np.float32(0.12) * s.main[:, :, None, None]
    canvas = over(canvas, ink, cover(s.whole - s.number(0, 0.55, 0.95)))
    turn = 2 * np.pi * s.light
    for part in s.parts:
        d = s.pixels(part.distance)
        tone = cover((np.cos(turn) * s.u + np.sin(turn) * s.v - s.number(1, 0.1, 0.5)) * s.scale)
        shade = 1 - np.float32(0.24 * part.round) * (1 - tone)
        canvas = over(canvas, s.colour(part) * 0.45, cover(d - 0.1) * 0.55)
        canvas = over(canvas, s.colour(part) * shade[:, None], cover(d + 0.35))
    return canvas


def concept_art(canvas: Map, s: Subject) -> Map:
    """A gradient on every part, a rim of light, and a halo in the thing's colour."""
    halo = s.number(0, 0.35, 0.7) * np.exp(-np.maximum(s.whole, 0) / s.number(1, 1.5, 3.2))
    canvas = over(canvas, 0.35 + 0.65 * s.main[:, :, None, None], halo)
    turn = 2 * np.pi * s.light
    ramp = np.clip(0.5 + 0.55 * (np.cos(turn) * s.u + np.sin(turn) * s.v), 0, 1)[:, None]
    for part in s.parts:
        d = s.pixels(part.distance)
        colour = s.colour(part)
        canvas = over(canvas, colour * (0.42 + 0.75 * ramp) + 0.10 * ramp, cover(d, 1.3))
        rim = np.exp(-((d + 0.8) ** 2)) * ramp[:, 0] * np.float32(0.45 * part.round)
        canvas = over(canvas, np.float32(1.0) * np.ones_like(colour), rim * cover(d))
    return canvas


def painting(canvas: Map, s: Subject) -> Map:
    """Brush strokes, each part with its own direction, and a loose edge."""
    x, y = s.u * s.scale / 32, s.v * s.scale / 32
    for index, part in enumerate(s.parts):
        a, b = s.number(index % 8, 0, 1), s.number((index + 3) % 8, 0, 1)
        stroke = ripple(x, y, a, 4.5 + 3 * b, a + b)
        cross = ripple(x, y, a + 0.21, 2.5 + b, b)
        d = s.pixels(part.distance) + 0.3 * stroke
        tint = 1 + 0.15 * stroke + 0.08 * cross
        warm = _TINGE * cross[:, None]
        canvas = over(canvas, s.colour(part) * tint[:, None] + warm, cover(d, 1.4))
    return canvas


def photo(canvas: Map, s: Subject) -> Map:
    """Rounded shading under a lamp, a highlight, soft shadows on the ground and the parts."""
    turn = 2 * np.pi * s.light
    lx, ly = np.cos(turn), np.sin(turn)
    foot = s.number(0, 0.75, 0.95)
    pool = np.sqrt(((s.u + 0.25 * lx) / 1.05) ** 2 + ((s.v - foot) / 0.24) ** 2)
    canvas = canvas * (1 - s.number(1, 0.3, 0.55) * np.clip(1.25 - pool, 0, 1))[:, None]
    for part in s.parts:
        d = s.pixels(part.distance)
        contact = np.clip(0.6 - d / 2.2, 0, 1) * np.float32(0.28)
        canvas = (canvas * (1 - contact * cover(-d, 1.0))[:, None]).astype(np.float32)
        lit = 0.74 + 0.30 * part.round * np.clip(lx * s.u + ly * s.v, -1, 1)
        edge = 1 - 0.34 * np.float32(part.round) * np.exp(np.minimum(d, 0) / 1.6)
        spot = np.exp(-((s.u - 0.35 * lx) ** 2 + (s.v - 0.35 * ly) ** 2) * 12)
        shine = np.float32(0.35 * part.round**2) * spot
        canvas = over(
            canvas, s.colour(part) * (lit * edge + 0.1)[:, None] + shine[:, None], cover(d)
        )
    return canvas


_WARM: Final = np.array((1.0, 0.9, 0.8), np.float32)[:, None, None]
_TINGE: Final = np.array((0.05, 0.0, -0.05), np.float32)[:, None, None]
STYLES: Final[dict[str, Callable[[Map, Subject], Map]]] = {
    "animation": animation, "concept-art": concept_art, "painting": painting, "photo": photo,
}  # fmt: skip


def wobble(
    style: str, u: Map, v: Map, number: Callable[[int, float, float], Map]
) -> tuple[Map, Map]:
    """The thing's coordinates as the style draws them: a painter's lines are not straight."""
    if style != "painting":
        return u, v
    a, b = number(8, 0, 6.28), number(9, 0, 6.28)
    return u + 0.045 * np.sin(5 * v + a), v + 0.045 * np.sin(5 * u + b)


def finish(style: str, ground: Map, x: Map, y: Map, numbers: Map) -> Map:
    """The ground in the style: flat bands, haze, brush or blur, before things are drawn on it."""

    def number(slot: int, low: float, high: float) -> Map:
        return np.asarray(low + (high - low) * numbers[:, slot], np.float32)[:, None, None]

    if style == "animation":
        flat: Map = np.round(ground * 9) / np.float32(9) * np.float32(0.96) + np.float32(0.03)
        return flat
    if style == "concept-art":
        away = np.sqrt((x - number(0, 0.2, 0.8)) ** 2 + (y - number(1, 0.1, 0.5)) ** 2)
        haze = np.clip(0.55 - away, 0, 1)[:, None] * np.float32(0.5)
        calm = ground + (ground.mean((2, 3), keepdims=True) - ground) * np.float32(0.15)
        lit: Map = calm * (0.82 + 0.5 * haze) + 0.22 * haze * _WARM
        return lit
    if style == "painting":
        bend = 0.05 * ripple(x, y, number(5, 0, 1), number(6, 1, 2.5), number(7, 0, 1))
        stroke = ripple(x + bend, y + bend, number(2, 0, 1), number(3, 4.5, 7.5), number(4, 0, 1))
        tint = 1 + 0.065 * stroke + number(8, 0.4, 1.2) * bend
        return ground * tint[:, None] + _TINGE * (8 * bend[:, None])
    soft = ground.copy()
    soft[..., 1:-1, 1:-1] = (
        2 * ground[..., 1:-1, 1:-1] + ground[..., :-2, 1:-1] + ground[..., 2:, 1:-1]
        + ground[..., 1:-1, :-2] + ground[..., 1:-1, 2:]
    ) / np.float32(6)  # fmt: skip
    fall = 1 - number(0, 0.1, 0.35) * ((x - 0.5) ** 2 + (y - 0.5) ** 2) * 2
    return (soft * fall[:, None]).astype(np.float32)
