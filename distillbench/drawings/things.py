"""Buildings, vehicles and toys: things a person names at a glance.

Each function draws one kind in the unit square, back to front, from about six free parameters.
"""

from __future__ import annotations

import numpy as np

from distillbench.drawings.part import Frame, Part
from distillbench.drawings.shapes import (
    box,
    circle,
    convex,
    cut,
    ellipse,
    segment,
    union,
    within,
)

__all__ = ["balloon", "boat", "car", "house", "robot", "rocket"]


def house(f: Frame) -> list[Part]:
    """Walls, a pitched roof, a door and one or two windows, some with a chimney."""
    u, v = f.u, f.v
    wide, eaves, peak = (
        f.between(0, 0.58, 0.78),
        f.between(1, -0.25, 0.0),
        f.between(2, -1.0, -0.75),
    )
    walls = convex(u, v, (-wide, eaves), (wide, eaves), (wide, 0.85), (-wide, 0.85))
    over = wide + 0.18
    roof = convex(u, v, (-over, eaves + 0.05), (0.0, peak), (over, eaves + 0.05))
    side = np.where(f.between(3, -1, 1) < 0, -1.0, 1.0).astype(np.float32)
    chimney = box(u, v, side * 0.45, -0.62, 0.11, 0.28) + f.some(4, 0.6)
    door_x = f.between(5, -0.35, 0.35)
    door = box(u, v, door_x, 0.52, 0.15, 0.33)
    window_x = np.where(door_x > 0, door_x - 0.52, door_x + 0.52).astype(np.float32)
    window = box(u, v, window_x, 0.32, 0.16, 0.16)
    attic = circle(u, v, 0.0, eaves - 0.28, 0.13) + f.some(6, 0.5)
    return [
        Part(chimney, "dark", 0.2), Part(walls, "light", 0.2), Part(roof, "main", 0.3),
        Part(door, "wood", 0.1), Part(window, "glass", 0.1), Part(attic, "glass", 0.1),
    ]  # fmt: skip


def car(f: Frame) -> list[Part]:
    """A car from the side, its cabin of varying length and place."""
    u, v = f.u, f.v
    low = f.between(0, -0.05, 0.1)
    body = box(u, v, 0.0, 0.28, 0.95, 0.28, 0.16)
    front, back = f.between(1, 0.25, 0.6), f.between(2, -0.7, -0.35)
    top = f.between(3, -0.6, -0.42)
    cabin = convex(
        u, v, (back + 0.12, top), (front - 0.25, top), (front, low + 0.1), (back, low + 0.1)
    )
    glass = convex(
        u,
        v,
        (back + 0.2, top + 0.12),
        (front - 0.28, top + 0.12),
        (front - 0.12, low),
        (back + 0.12, low),
    )
    post = cut(glass, segment(u, v, ((front + back) / 2, -1.0), ((front + back) / 2, 1.0), 0.05))
    x, r = f.between(4, 0.5, 0.6), f.between(5, 0.2, 0.27)
    wheels = union(circle(u, v, -x, 0.55, r), circle(u, v, x, 0.55, r))
    hubs = union(circle(u, v, -x, 0.55, r * 0.42), circle(u, v, x, 0.55, r * 0.42))
    light = ellipse(u, v, 0.88, 0.2, 0.09, 0.1)
    return [
        Part(cabin, "main", 0.5), Part(post, "glass", 0.2), Part(body, "main", 0.5),
        Part(light, "fire", 0.5), Part(wheels, "black", 0.4), Part(hubs, "metal", 0.6),
    ]  # fmt: skip


def boat(f: Frame) -> list[Part]:
    """A hull with a mast and one or two sails."""
    u, v = f.u, f.v
    deck, mast = f.between(0, 0.3, 0.45), f.between(1, -0.25, 0.15)
    hull = convex(u, v, (-0.92, deck), (0.92, deck), (0.58, 0.85), (-0.55, 0.85))
    band = within(hull, box(u, v, 0.0, deck + 0.1, 1.0, 0.08))
    pole = segment(u, v, (mast, -0.92), (mast, deck), 0.05)
    reach, foot = f.between(2, 0.5, 0.85), deck - 0.1
    sail = convex(u, v, (mast + 0.08, -0.88), (mast + reach, foot), (mast + 0.08, foot))
    jib = convex(
        u, v, (mast - 0.08, -0.7), (mast - 0.08, foot), (mast - f.between(3, 0.4, 0.65), foot)
    )
    flag = convex(u, v, (mast, -1.0), (mast - 0.3, -0.9), (mast, -0.78)) + f.some(4, 0.4)
    return [
        Part(pole, "wood", 0.5), Part(sail, "white", 0.3), Part(jib + f.some(5, 0.7), "light", 0.3),
        Part(flag, "accent", 0.1), Part(hull, "main", 0.6), Part(band, "white", 0.5),
    ]  # fmt: skip


def rocket(f: Frame) -> list[Part]:
    """A pointed body with fins, a porthole and fire, tilted."""
    f = f.turn(0, 35)
    u, v = f.u, f.v
    wide = f.between(1, 0.28, 0.38)
    body = within(
        circle(u, v, 1.3 - wide, -0.1, 1.3), circle(u, v, wide - 1.3, -0.1, 1.3),
        box(u, v, 0.0, -0.2, 1.0, 0.75),
    )  # fmt: skip
    nose = within(body, box(u, v, 0.0, -1.0, 1.0, f.between(2, 0.4, 0.55)))
    span, sweep = f.between(3, 0.55, 0.75), f.between(4, 0.05, 0.3)
    fins = union(
        convex(u, v, (-0.1, 0.05), (-0.1, 0.55), (-span, 0.6 + sweep)),
        convex(u, v, (0.1, 0.05), (span, 0.6 + sweep), (0.1, 0.55)),
    )
    fire = convex(u, v, (-0.2, 0.5), (0.2, 0.5), (0.0, f.between(5, 0.8, 1.05)))
    port = circle(u, v, 0.0, -0.2, 0.16)
    return [
        Part(fire, "fire", 0.1), Part(fins, "dark", 0.3), Part(body, "white", 0.7),
        Part(nose, "main", 0.7), Part(port, "glass", 0.5),
    ]  # fmt: skip


def balloon(f: Frame) -> list[Part]:
    """A balloon with a knot and a waving string."""
    u, v = f.u, f.v
    wide, high = f.between(0, 0.52, 0.68), f.between(1, 0.58, 0.7)
    lean = f.between(2, -0.15, 0.15) * v
    skin = ellipse(u - lean, v, 0.0, -0.33, wide, high)
    knot = convex(u, v, (0.0, high - 0.42), (0.12, high - 0.22), (-0.12, high - 0.22))
    wave = f.between(3, 0.05, 0.16) * np.sin((v - 0.2) * f.between(4, 5.0, 8.0))
    string = box(u - wave, v, 0.0, 0.65, 0.035, 0.38)
    shine = ellipse(u - lean, v, -wide * 0.4, -0.58, 0.1, 0.17)
    return [
        Part(string, "black", 0.0), Part(knot, "dark", 0.4), Part(skin, "main", 1.0),
        Part(shine, "light", 0.2),
    ]  # fmt: skip


def robot(f: Frame) -> list[Part]:
    """A boxy head with eyes, mouth and antenna on a body with arms."""
    u, v = f.u, f.v
    wide, chin = f.between(0, 0.42, 0.6), f.between(1, 0.0, 0.15)
    head = box(u, v, 0.0, chin - 0.42, wide, 0.4, 0.1)
    x, r = f.between(2, 0.18, 0.28), f.between(3, 0.1, 0.15)
    eyes = union(circle(u, v, -x, chin - 0.52, r), circle(u, v, x, chin - 0.52, r))
    mouth = box(u, v, 0.0, chin - 0.2, f.between(4, 0.12, 0.3), 0.06)
    antenna = union(
        segment(u, v, (0.0, chin - 0.8), (0.0, -0.92), 0.04), circle(u, v, 0.0, -0.92, 0.1)
    ) + f.some(5, 0.7)
    body = box(u, v, 0.0, 0.55, f.between(6, 0.38, 0.55), 0.38, 0.08)
    arms = union(
        segment(u, v, (-0.5, 0.35), (-0.82, f.between(7, 0.0, 0.8)), 0.1),
        segment(u, v, (0.5, 0.35), (0.82, f.between(8, 0.0, 0.8)), 0.1),
    )
    panel = box(u, v, 0.0, 0.55, 0.2, 0.16)
    return [
        Part(antenna, "metal", 0.5), Part(arms, "metal", 0.6), Part(body, "main", 0.4),
        Part(panel, "accent", 0.2), Part(head, "main", 0.4), Part(eyes, "white", 0.5),
        Part(mouth, "black", 0.1),
    ]  # fmt: skip
