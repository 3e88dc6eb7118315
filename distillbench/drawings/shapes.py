"""Signed distances of plane shapes, negative inside, vectorised over pictures.

Everything is float32. A map is (M, H, W): M pictures of H x W points; a number that varies by
picture is (M, 1, 1). Distances are exact, or close bounds near the outline, in units of the
coordinates; formulas for the primitives are the usual ones of constructive plane geometry.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Map: TypeAlias = NDArray[np.floating]
Value: TypeAlias = Map | float

__all__ = [
    "Map", "Value", "arc", "box", "circle", "convex", "cut", "ellipse", "moved", "petals",
    "segment", "turned", "union", "within",
]  # fmt: skip

_TINY: Final = np.float32(1e-6)


def moved(u: Map, v: Map, x: Value, y: Value, scale: Value = 1.0) -> tuple[Map, Map]:
    """Coordinates in a frame with its origin at (x, y) and units of `scale`."""
    return _f32((u - x) / scale), _f32((v - y) / scale)


def turned(u: Map, v: Map, angle: Value) -> tuple[Map, Map]:
    """Coordinates in a frame turned by `angle` radians (clockwise on the screen, v points down)."""
    cos, sin = np.cos(angle), np.sin(angle)
    return _f32(cos * u + sin * v), _f32(cos * v - sin * u)


def union(*parts: Map) -> Map:
    """Inside any of them."""
    out = parts[0]
    for part in parts[1:]:
        out = np.minimum(out, part)
    return out


def within(*parts: Map) -> Map:
    """Inside all of them."""
    out = parts[0]
    for part in parts[1:]:
        out = np.maximum(out, part)
    return out


def cut(a: Map, b: Map) -> Map:
    """Inside `a` and outside `b`."""
    return np.maximum(a, -b)


def circle(u: Map, v: Map, x: Value, y: Value, radius: Value) -> Map:
    """A disc."""
    return _f32(np.sqrt((u - x) ** 2 + (v - y) ** 2) - radius)


def ellipse(u: Map, v: Map, x: Value, y: Value, wide: Value, high: Value) -> Map:
    """An ellipse with half axes `wide` and `high` (first-order distance)."""
    a, b = (u - x) / wide, (v - y) / high
    r = np.sqrt(a * a + b * b) + _TINY
    slope = np.sqrt((a / wide) ** 2 + (b / high) ** 2) + _TINY
    return _f32((r - 1) * r / slope)


def box(u: Map, v: Map, x: Value, y: Value, wide: Value, high: Value, round_: Value = 0.0) -> Map:
    """A rectangle with half sides `wide` and `high` and corners of radius `round_`."""
    a, b = np.abs(u - x) - wide + round_, np.abs(v - y) - high + round_
    outside = np.sqrt(np.maximum(a, 0) ** 2 + np.maximum(b, 0) ** 2)
    return _f32(outside + np.minimum(np.maximum(a, b), 0) - round_)


def convex(u: Map, v: Map, *corners: tuple[Value, Value]) -> Map:
    """A convex polygon, its corners clockwise on the screen (v points down)."""
    out: Map | None = None
    for (ax, ay), (bx, by) in zip(corners, (*corners[1:], corners[0]), strict=True):
        ex, ey = bx - ax, by - ay
        norm = np.sqrt(np.square(ex) + np.square(ey)) + _TINY
        side = _f32(((u - ax) * ey - (v - ay) * ex) / norm)
        out = side if out is None else np.maximum(out, side)
    assert out is not None, "a polygon has corners"
    return out


def segment(u: Map, v: Map, a: tuple[Value, Value], b: tuple[Value, Value], width: Value) -> Map:
    """A stroke of half width `width` with round ends from `a` to `b`."""
    ex, ey = b[0] - a[0], b[1] - a[1]
    length = np.square(ex) + np.square(ey) + _TINY
    along = np.clip(((u - a[0]) * ex + (v - a[1]) * ey) / length, 0, 1)
    return _f32(np.sqrt((u - a[0] - along * ex) ** 2 + (v - a[1] - along * ey) ** 2) - width)


def arc(u: Map, v: Map, x: Value, y: Value, radius: Value, width: Value) -> Map:
    """A ring of half width `width`."""
    return _f32(np.abs(circle(u, v, x, y, radius)) - width)


def petals(u: Map, v: Map, count: Value, inner: Value, outer: Value) -> Map:
    """A rosette round the origin whose outline swings `count` times between two radii."""
    r, turn = np.sqrt(u * u + v * v), np.arctan2(v, u)
    swing = 0.5 + 0.5 * np.cos(turn * count)
    edge = inner + (outer - inner) * np.sqrt(swing)
    return _f32((r - edge) * 0.8)


def _f32(x: object) -> Map:
    return np.asarray(x, dtype=np.float32)
