"""The renderer: 32x32 RGB pictures of scenes with continuous nuisances, vectorised in numpy.

Every picture depends on its scene and its own (seed, index) alone, never on the batch it is
drawn in: all randomness is a hash of (seed, index, slot).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from distillbench.world.scene import splitmix

SIZE: Final = 32
Floats = NDArray[np.floating]
Ints = NDArray[np.int64]
_CENTRE: Final = (SIZE - 1) / 2
_HUES: Final = np.array([0, 28, 54, 125, 182, 226, 276, 332], np.float32) / 360
_SATURATION: Final = np.array([0.9, 0.92, 0.88, 0.85, 0.85, 0.85, 0.8, 0.48], np.float32)
_GROUND: Final = np.array(
    [[0.09, 0.10, 0.20], [0.92, 0.94, 0.97], [0.55, 0.57, 0.60], [0.80, 0.70, 0.52]], np.float32
)
_SIDES: Final = np.array([[-1, 0], [1, 0], [0, -1], [0, 1], [0, 0]], np.float32)
_AXIS: Final = np.arange(SIZE, dtype=np.float32)
_ROWS: Final[Floats] = np.repeat(_AXIS[None, :, None], SIZE, axis=2)
_COLS: Final[Floats] = np.repeat(_AXIS[None, None, :], SIZE, axis=1)
_SLOTS: Final = 40  # uniforms of a picture: 0-15 the picture, 16-27 thing one, 28-39 thing two


@dataclass(frozen=True)
class Scenes:
    """Codes of N scenes: style and background (N,), and (N, 2) columns a thing (-1: absent)."""

    style: Ints
    background: Ints
    shape: Ints
    colour: Ints
    size: Ints
    position: Ints


@dataclass(frozen=True)
class _Thing:
    """Geometry and paint of one thing in each of M pictures; maps are (M, 32, 32)."""

    shape: Ints
    radius: Floats
    centre: Floats
    angle: Floats
    colour: Floats
    noise: Floats


def uniforms(seed: int, index: Ints, count: int, *, stream: int = 0) -> Floats:
    """(N, count) uniforms in [0, 1) that depend on (seed, index, slot, stream) alone."""
    with np.errstate(over="ignore"):
        key = splitmix(index.astype(np.uint64) + splitmix(np.array([seed], np.uint64)))
        slot = splitmix(np.arange(count, dtype=np.uint64) + np.uint64(stream << 32))
    return _unit(splitmix(key[:, None] ^ slot[None]))


def draw(scenes: Scenes, *, seed: int, index: Ints) -> NDArray[np.uint8]:
    """(N, 32, 32, 3) uint8 pictures of the scenes; picture i is a function of (scene, index)."""
    noise = uniforms(seed, index, _SLOTS, stream=1)
    out = np.empty((len(index), SIZE, SIZE, 3), np.float32)
    painters = (_animation, _concept_art, _painting, _photo)
    for style, paint in enumerate(painters):
        rows = np.flatnonzero(scenes.style == style)
        if len(rows):
            canvas = _ground(scenes.background[rows], noise[rows])
            for slot in (0, 1):
                some = np.flatnonzero(scenes.shape[rows, slot] >= 0)
                if len(some):
                    thing = _thing(scenes, rows[some], slot, noise[rows[some]])
                    canvas[some] = paint(canvas[some], thing, noise[rows[some]])
            out[rows] = canvas
    out += _grain(seed, index, np.where(scenes.style == 3, 0.016, 0.004))[..., None]
    return (np.clip(out, 0, 1) * 255 + 0.5).astype(np.uint8)


def _unit(x: NDArray[np.uint64]) -> Floats:
    return (x >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)


def _grain(seed: int, index: Ints, level: NDArray[np.float64]) -> Floats:
    u = uniforms(seed, index, SIZE * SIZE, stream=2).reshape(-1, SIZE, SIZE)
    return (u - np.float32(0.5)) * (level.astype(np.float32) * np.float32(12**0.5))[:, None, None]


def _col(x: Floats) -> Floats:
    return x[:, None, None]


def _ground(background: Ints, u: Floats) -> Floats:
    """(M, 32, 32, 3): base colour, a linear gradient of light, and a darker floor."""
    base = _GROUND[background] + 0.06 * (u[:, 0:3] - 0.5)
    turn = 2 * np.pi * u[:, 3]
    along = (_col(np.cos(turn)) * (_COLS - _CENTRE) + _col(np.sin(turn)) * (_ROWS - _CENTRE)) / 16
    light = _col(0.04 + 0.10 * u[:, 4]) * along
    horizon = _col(17 + 11 * u[:, 5]) + _col(0.3 * (u[:, 6] - 0.5)) * (_COLS - _CENTRE)
    light -= _col(0.05 + 0.09 * u[:, 7]) * np.clip(_ROWS - horizon + 0.5, 0, 1)
    out: Floats = base[:, None, None, :] * (1 + light[..., None]) + 0.3 * light[..., None]
    return out


def _thing(scenes: Scenes, rows: Ints, slot: int, noise: Floats) -> _Thing:
    u = noise[:, 16 + 12 * slot : 28 + 12 * slot]
    pair = scenes.shape[rows, 1] >= 0
    large = scenes.size[rows, slot] == 1
    radius = np.where(large, 7.0 + 1.7 * u[:, 0], 4.3 + 1.0 * u[:, 0])
    radius = np.where(pair & large, 6.2 + 1.0 * u[:, 0], radius).astype(np.float32)
    reach = np.where(pair, 7.6, 6.4).astype(np.float32)
    jitter = np.where(pair, 2.0, 3.0).astype(np.float32)[:, None] * (u[:, 1:3] - 0.5)
    centre = _CENTRE + reach[:, None] * _SIDES[scenes.position[rows, slot]] + jitter
    colour = scenes.colour[rows, slot]
    hue = _HUES[colour] + (u[:, 3] - 0.5) * np.float32(14 / 360)
    saturation = _SATURATION[colour] + 0.14 * (u[:, 4] - 0.5)
    paint = _rgb(hue, saturation, 0.84 + 0.14 * u[:, 5])
    angle = np.float32(np.deg2rad(24)) * (u[:, 6] - 0.5)
    return _Thing(scenes.shape[rows, slot], radius, centre, angle, paint, u)


def _rgb(hue: Floats, saturation: Floats, value: Floats) -> Floats:
    """HSV to RGB, (M,) each -> (M, 3)."""
    sector = (np.array([5, 3, 1], np.float32)[None] + hue[:, None] * 6) % 6
    ramp = np.clip(np.minimum(sector, 4 - sector), 0, 1)
    out: Floats = value[:, None] * (1 - saturation[:, None] * ramp)
    return out


def _local(thing: _Thing, shift: float = 0.0) -> tuple[Floats, Floats]:
    """Coordinates of the pixels in the thing's own rotated frame, in radii."""
    dx = _COLS - _col(thing.centre[:, 0] + shift)
    dy = _ROWS - _col(thing.centre[:, 1] + shift)
    cos, sin = _col(np.cos(thing.angle)), _col(np.sin(thing.angle))
    scale = 1 / _col(thing.radius)
    return (cos * dx + sin * dy) * scale, (cos * dy - sin * dx) * scale


def _distance(shape: Ints, u: Floats, v: Floats) -> Floats:
    """Signed distance to the outline in radii, negative inside (exact or a close bound)."""
    out = np.empty_like(u)
    for code, outline in enumerate((_circle, _square, _triangle, _star, _cross, _ring)):
        rows = np.flatnonzero(shape == code)
        if len(rows):
            out[rows] = outline(u[rows], v[rows])
    return out


def _circle(u: Floats, v: Floats) -> Floats:
    return np.sqrt(u * u + v * v) - np.float32(0.92)


def _square(u: Floats, v: Floats) -> Floats:
    return np.maximum(np.abs(u), np.abs(v)) - np.float32(0.8)


def _triangle(u: Floats, v: Floats) -> Floats:
    return np.maximum(np.float32(0.8660254) * np.abs(u) - 0.5 * v, v) - np.float32(0.55)


def _star(u: Floats, v: Floats) -> Floats:
    """Five points: fold the plane into half a point and take the line of its edge."""
    step = np.float32(2 * np.pi / 5)
    turn = np.arctan2(u, -v)
    fold = np.abs((turn + step / 2) % step - step / 2)
    r = np.sqrt(u * u + v * v)
    x, y = r * np.sin(fold), r * np.cos(fold)
    tip, dip = 1.08, 0.46
    ex, ey = dip * np.sin(np.pi / 5), dip * np.cos(np.pi / 5) - tip
    norm = np.hypot(ex, ey)
    out: Floats = ((y - tip) * np.float32(ex / norm) - x * np.float32(ey / norm)).astype(np.float32)
    return out


def _cross(u: Floats, v: Floats) -> Floats:
    a, b = np.abs(u), np.abs(v)
    arm, wide = np.float32(0.95), np.float32(0.3)
    return np.minimum(np.maximum(a - arm, b - wide), np.maximum(a - wide, b - arm))


def _ring(u: Floats, v: Floats) -> Floats:
    return np.abs(np.sqrt(u * u + v * v) - np.float32(0.74)) - np.float32(0.23)


def _cover(distance: Floats) -> Floats:
    """Antialiased coverage of a pixel from its signed distance in pixels."""
    out: Floats = np.clip(0.5 - distance, 0, 1)
    return out


def _over(canvas: Floats, paint: Floats, alpha: Floats) -> Floats:
    return canvas + (paint - canvas) * alpha[..., None]


def _animation(canvas: Floats, thing: _Thing, noise: Floats) -> Floats:
    """Flat paint in two tones with a hard edge, and a dark outline."""
    u, v = _local(thing)
    d = _distance(thing.shape, u, v) * _col(thing.radius)
    turn = _col(2 * np.pi * noise[:, 8])
    tone = _cover((np.cos(turn) * u + np.sin(turn) * v + _col(0.6 * thing.noise[:, 7])) * 6)
    paint = thing.colour[:, None, None, :] * (0.78 + 0.22 * tone[..., None])
    canvas = _over(canvas, np.float32(0.04) + 0.12 * paint, _cover(d - 0.5))
    return _over(canvas, paint, _cover(d + 0.8))


def _concept_art(canvas: Floats, thing: _Thing, noise: Floats) -> Floats:
    """A gradient from light to dark, and a glow in the thing's colour around it."""
    u, v = _local(thing)
    d = _distance(thing.shape, u, v) * _col(thing.radius)
    reach = _col(2.0 + 2.5 * thing.noise[:, 7])
    glow = _col(0.45 + 0.35 * thing.noise[:, 8]) * np.exp(-np.maximum(d, 0) / reach)
    hue = thing.colour[:, None, None, :]
    canvas = _over(canvas, 0.25 + 0.75 * hue, glow)
    turn = _col(2 * np.pi * noise[:, 8])
    ramp = np.clip(0.5 + 0.6 * (np.cos(turn) * u + np.sin(turn) * v), 0, 1)[..., None]
    return _over(canvas, hue * (1.15 - 0.7 * ramp) + 0.12 * (1 - ramp), _cover(d))


def _painting(canvas: Floats, thing: _Thing, noise: Floats) -> Floats:
    """Wavy brush stripes, one field on the ground and another on the thing."""
    u, v = _local(thing)
    d = _distance(thing.shape, u, v) * _col(thing.radius)
    d = d + 0.35 * _stripes(noise[:, 8], noise[:, 9], noise[:, 10], wave=0.0)
    ground = 1 + 0.10 * _stripes(noise[:, 11], noise[:, 12], noise[:, 13], wave=1.0)
    outside = 1 - _cover(d)
    canvas = canvas * (1 + (ground - 1) * outside)[..., None]
    stripes = _stripes(thing.noise[:, 7], thing.noise[:, 8], thing.noise[:, 9], wave=0.6)
    paint = thing.colour[:, None, None, :] * (0.86 + 0.16 * stripes[..., None])
    return _over(canvas, paint, _cover(d))


def _stripes(turn: Floats, frequency: Floats, phase: Floats, *, wave: float) -> Floats:
    """A sine field in [-1, 1] with random direction, period (4.5 to 8 pixels) and phase."""
    angle = _col(np.float32(np.pi) * turn)
    across = np.cos(angle) * _COLS + np.sin(angle) * _ROWS
    along = np.cos(angle) * _ROWS - np.sin(angle) * _COLS
    rate = _col(np.float32(2 * np.pi) / (4.5 + 3.5 * frequency))
    start = _col(np.float32(2 * np.pi) * phase)
    return np.sin(rate * across + start + wave * np.sin(0.35 * along + 2 * start))


def _photo(canvas: Floats, thing: _Thing, noise: Floats) -> Floats:
    """Rounded shading under a lamp, a highlight, and a soft shadow on the ground."""
    turn = 2 * np.pi * noise[:, 8]
    lamp_x, lamp_y = _col(np.cos(turn)), _col(np.sin(turn))
    away = np.stack([-np.cos(turn), -np.sin(turn)], 1) * (1.8 + 1.4 * noise[:, 9])[:, None]
    cast = _Thing(thing.shape, thing.radius, thing.centre + away, thing.angle, *_paint(thing))
    shadow = _distance(thing.shape, *_local(cast)) * _col(thing.radius)
    dark = _col(0.35 + 0.25 * noise[:, 10]) * np.clip(0.5 - shadow / 3, 0, 1)
    canvas = canvas * (1 - dark)[..., None]
    u, v = _local(thing)
    d = _distance(thing.shape, u, v) * _col(thing.radius)
    dx = (_COLS - _col(thing.centre[:, 0])) / _col(thing.radius)
    dy = (_ROWS - _col(thing.centre[:, 1])) / _col(thing.radius)
    lit = np.clip(0.25 + 0.75 * (0.5 + 0.55 * (dx * lamp_x + dy * lamp_y)), 0.2, 1.1)
    spot = np.exp(-((dx - 0.45 * lamp_x) ** 2 + (dy - 0.45 * lamp_y) ** 2) * 9)
    paint = thing.colour[:, None, None, :] * lit[..., None] + 0.45 * spot[..., None]
    return _over(canvas, paint, _cover(d))


def _paint(thing: _Thing) -> tuple[Floats, Floats]:
    return thing.colour, thing.noise
