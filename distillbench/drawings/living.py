"""Living things: plants, animals, and a snowman who keeps them company."""

from __future__ import annotations

import numpy as np

from distillbench.drawings.part import Frame, Part
from distillbench.drawings.shapes import (
    arc,
    box,
    circle,
    convex,
    cut,
    ellipse,
    moved,
    petals,
    segment,
    turned,
    union,
    within,
)

__all__ = [
    "apple", "bird", "butterfly", "cactus", "cat", "fish", "flower", "mushroom", "snail", "snowman",
    "tree",
]  # fmt: skip


def tree(f: Frame) -> list[Part]:
    """A trunk with a round crown of three lobes, or a fir of three tiers."""
    u, v = f.u, f.v
    trunk = box(u, v, 0.0, 0.6, f.between(0, 0.1, 0.18), 0.35)
    lobe, spread = f.between(1, 0.4, 0.55), f.between(2, 0.2, 0.38)
    leafy = union(
        circle(u, v, 0.0, -0.42, lobe), circle(u, v, -spread, -0.02, lobe * 0.85),
        circle(u, v, spread, -0.02, lobe * 0.85),
    )  # fmt: skip
    wide = f.between(3, 0.6, 0.85)
    fir = union(
        convex(u, v, (0.0, -1.0), (wide * 0.6, -0.35), (-wide * 0.6, -0.35)),
        convex(u, v, (0.0, -0.7), (wide * 0.82, 0.05), (-wide * 0.82, 0.05)),
        convex(u, v, (0.0, -0.4), (wide, 0.5), (-wide, 0.5)),
    )
    round_, pointed = f.some(4, 0.6), 9.0 - f.some(4, 0.6)
    crown = union(leafy + round_, fir + pointed)
    x = f.between(5, -0.2, 0.2)
    fruit = union(
        circle(u, v, x, -0.35, 0.1),
        circle(u, v, x - 0.3, 0.05, 0.1),
        circle(u, v, x + 0.25, 0.1, 0.1),
    ) + f.some(6, 0.4)
    return [Part(trunk, "wood", 0.6), Part(crown, "main", 0.8), Part(fruit, "accent", 0.9)]


def flower(f: Frame) -> list[Part]:
    """Four to eight petals round a heart, on a stem with leaves."""
    u, v = f.u, f.v
    bend = f.between(0, -0.2, 0.2) * (v + 0.3) ** 2
    stem = box(u - bend, v, 0.0, 0.45, 0.055, 0.55)
    x, y = turned(*moved(u - bend, v, 0.0, 0.55), 0.6)
    x2, y2 = turned(*moved(u - bend, v, 0.0, 0.35), -0.6)
    leaves = union(
        ellipse(x, y, 0.28, 0.0, 0.28, 0.11),
        ellipse(x2, y2, -0.28, 0.0, 0.28, 0.11) + f.some(1, 0.6),
    )
    a, b = turned(*moved(u, v, 0.0, -0.32), f.between(2, 0.0, 6.28))
    head = petals(a, b, f.whole(3, 4, 8), f.between(4, 0.26, 0.4), f.between(5, 0.56, 0.68))
    heart = circle(a, b, 0.0, 0.0, f.between(6, 0.16, 0.25))
    return [
        Part(stem, "leaf", 0.5), Part(leaves, "leaf", 0.5), Part(head, "main", 0.6),
        Part(heart, "fire", 0.8),
    ]  # fmt: skip


def mushroom(f: Frame) -> list[Part]:
    """A stem under a cap with spots."""
    u, v = f.u, f.v
    edge = f.between(0, -0.05, 0.15)
    wide = f.between(1, 0.72, 0.92)
    cap = within(ellipse(u, v, 0.0, edge, wide, f.between(2, 0.7, 0.95)), v - edge)
    lip = ellipse(u, v, 0.0, edge, wide, 0.12)
    thick = f.between(3, 0.2, 0.34)
    stem = convex(u, v, (-thick, edge), (thick, edge), (thick + 0.1, 0.88), (-thick - 0.1, 0.88))
    x = f.between(4, -0.15, 0.15)
    dots = within(cap + 0.03, union(
        circle(u, v, x, edge - 0.45, 0.15), circle(u, v, x - 0.45, edge - 0.2, 0.12),
        circle(u, v, x + 0.45, edge - 0.24, 0.12),
    ))  # fmt: skip
    return [
        Part(stem, "skin", 0.7), Part(union(cap, lip), "main", 0.8),
        Part(dots + f.some(5, 0.8), "white", 0.3),
    ]  # fmt: skip


def apple(f: Frame) -> list[Part]:
    """Two lobes, a stem and a leaf; some with a bite."""
    u, v = f.u, f.v
    r, x = f.between(0, 0.52, 0.6), f.between(1, 0.2, 0.3)
    body = union(
        ellipse(u, v, -x, 0.15, r, r * 1.12), ellipse(u, v, x, 0.15, r, r * 1.12),
        ellipse(u, v, 0.0, 0.2, r, r),
    )  # fmt: skip
    bite = circle(u, v, 0.85, f.between(2, -0.1, 0.3), 0.33) + f.some(3, 0.35)
    body = cut(body, bite)
    stem = segment(u, v, (0.0, -0.35), (f.between(4, -0.15, 0.15), -0.82), 0.06)
    a, b = turned(*moved(u, v, 0.08, -0.62), f.between(5, -0.7, 0.1))
    leaf = ellipse(a, b, 0.3, 0.0, 0.28, 0.13)
    shine = ellipse(u, v, -x - 0.12, -0.1, 0.1, 0.18)
    return [
        Part(stem, "wood", 0.4), Part(leaf, "leaf", 0.4), Part(body, "main", 0.95),
        Part(shine, "light", 0.1),
    ]  # fmt: skip


def cactus(f: Frame) -> list[Part]:
    """A column with one or two arms in a pot, some in flower."""
    u, v = f.u, f.v
    w, top = f.between(0, 0.17, 0.25), f.between(1, -0.85, -0.55)
    column = segment(u, v, (0.0, top + w), (0.0, 0.6), w)
    a, b = f.between(2, -0.1, 0.3), f.between(3, -0.1, 0.3)
    x, arm = f.between(4, 0.48, 0.62), w * 0.62
    left = union(
        segment(u, v, (-x, a), (0.0, a), arm),
        segment(u, v, (-x, a), (-x, a - f.between(5, 0.25, 0.5)), arm),
    )
    right = union(
        segment(u, v, (x, b), (0.0, b), arm),
        segment(u, v, (x, b), (x, b - f.between(6, 0.25, 0.5)), arm),
    )
    bloom = petals(u, v - top, 5.0, 0.08, 0.18) + f.some(7, 0.5)
    pot = convex(u, v, (-0.48, 0.48), (0.48, 0.48), (0.34, 0.92), (-0.34, 0.92))
    return [
        Part(union(left + f.some(8, 0.85), right), "main", 0.8), Part(column, "main", 0.8),
        Part(bloom, "accent", 0.3), Part(pot, "wood", 0.5),
    ]  # fmt: skip


def fish(f: Frame) -> list[Part]:
    """A fish from the side, facing either way."""
    side = np.where(f.between(0, -1, 1) < 0, -1.0, 1.0).astype(np.float32)
    u, v = f.u * side, f.v
    high, long = f.between(1, 0.4, 0.6), f.between(2, 0.55, 0.66)
    body = ellipse(u, v, 0.18, 0.0, long, high)
    spread, root = f.between(3, 0.35, 0.55), 0.2 - long
    tail = convex(u, v, (root + 0.12, 0.0), (-0.95, spread), (-0.8, 0.0), (-0.95, -spread))
    tail = union(
        convex(u, v, (root + 0.15, -0.06), (root + 0.15, 0.08), (-0.95, spread), (-0.78, 0.0)),
        convex(u, v, (root + 0.15, 0.06), (-0.78, 0.0), (-0.95, -spread), (root + 0.15, -0.08)),
    )
    fin = convex(
        u, v, (0.0, -high + 0.08), (0.12, -high - f.between(4, 0.15, 0.35)), (0.42, -high + 0.12)
    )
    flap = ellipse(u, v, 0.12, 0.12, 0.18, 0.1)
    bars = within(body, np.abs(np.sin(u * f.between(5, 7.0, 11.0))) - 0.3) + f.some(6, 0.5)
    eye, pupil = circle(u, v, 0.52, -0.12, 0.13), circle(u, v, 0.55, -0.12, 0.065)
    return [
        Part(tail, "dark", 0.3), Part(fin, "dark", 0.3), Part(body, "main", 0.9),
        Part(bars, "accent", 0.9), Part(flap, "dark", 0.3), Part(eye, "white", 0.5),
        Part(pupil, "black", 0.1),
    ]  # fmt: skip


def cat(f: Frame) -> list[Part]:
    """A cat's face: ears, eyes, nose, whiskers."""
    u, v = f.u, f.v
    wide, high = f.between(0, 0.68, 0.82), f.between(1, 0.58, 0.68)
    head = ellipse(u, v, 0.0, 0.2, wide, high)
    tip, lift = f.between(2, 0.55, 0.75), f.between(3, -0.95, -0.75)
    left = convex(u, v, (-tip, lift), (-0.12, -0.3), (-wide + 0.02, 0.15))
    right = convex(u, v, (tip, lift), (wide - 0.02, 0.15), (0.12, -0.3))
    inner = union(
        convex(u, v, (-tip + 0.04, lift + 0.18), (-0.28, -0.28), (-wide + 0.14, 0.0)),
        convex(u, v, (tip - 0.04, lift + 0.18), (wide - 0.14, 0.0), (0.28, -0.28)),
    )
    x = f.between(4, 0.28, 0.38)
    eyes = union(ellipse(u, v, -x, 0.08, 0.14, 0.17), ellipse(u, v, x, 0.08, 0.14, 0.17))
    slit = f.between(5, 0.05, 0.11)
    pupils = union(ellipse(u, v, -x, 0.08, slit, 0.15), ellipse(u, v, x, 0.08, slit, 0.15))
    nose = convex(u, v, (-0.1, 0.32), (0.1, 0.32), (0.0, 0.44))
    muzzle = union(ellipse(u, v, -0.14, 0.5, 0.2, 0.15), ellipse(u, v, 0.14, 0.5, 0.2, 0.15))
    droop = f.between(6, -0.12, 0.12)
    hairs = union(
        segment(u, v, (-0.35, 0.48), (-0.95, 0.42 + droop), 0.03),
        segment(u, v, (0.35, 0.48), (0.95, 0.42 + droop), 0.03),
        segment(u, v, (-0.35, 0.54), (-0.9, 0.66 + droop), 0.03),
        segment(u, v, (0.35, 0.54), (0.9, 0.66 + droop), 0.03),
    )
    return [
        Part(union(left, right), "main", 0.4), Part(inner, "skin", 0.2), Part(head, "main", 0.9),
        Part(muzzle, "light", 0.6), Part(eyes, "white", 0.3), Part(pupils, "black", 0.1),
        Part(nose, "black", 0.3), Part(hairs, "black", 0.0),
    ]  # fmt: skip


def butterfly(f: Frame) -> list[Part]:
    """Four wings with spots round a dark body, tilted."""
    f = f.turn(0, 25)
    u, v = np.abs(f.u), f.v
    a, b = turned(*moved(u, v, 0.05, -0.1), f.between(1, -0.75, -0.45))
    upper = ellipse(a, b, f.between(2, 0.42, 0.5), 0.0, 0.48, f.between(3, 0.28, 0.38))
    c, d = turned(*moved(u, v, 0.05, 0.15), f.between(4, 0.5, 0.85))
    lower = ellipse(c, d, 0.35, 0.0, 0.36, f.between(5, 0.22, 0.3))
    spots = union(circle(a, b, 0.58, 0.0, f.between(6, 0.1, 0.18)), circle(c, d, 0.42, 0.0, 0.1))
    body = ellipse(u, v, 0.0, 0.08, 0.1, 0.55)
    feelers = segment(u, v, (0.04, -0.4), (0.3, -0.85), 0.035)
    return [
        Part(lower, "dark", 0.3), Part(upper, "main", 0.3), Part(spots, "accent", 0.2),
        Part(feelers, "black", 0.0), Part(body, "black", 0.7),
    ]  # fmt: skip


def bird(f: Frame) -> list[Part]:
    """A round bird from the side with beak, wing, tail and legs."""
    side = np.where(f.between(0, -1, 1) < 0, -1.0, 1.0).astype(np.float32)
    u, v = f.u * side, f.v
    body = ellipse(u, v, -0.05, 0.15, f.between(1, 0.55, 0.65), f.between(2, 0.45, 0.52))
    head = circle(u, v, 0.38, -0.42, f.between(3, 0.32, 0.4))
    beak = convex(u, v, (0.62, -0.55), (f.between(4, 0.9, 1.05), -0.4), (0.62, -0.3))
    lift = f.between(5, -0.35, 0.25)
    tail = convex(u, v, (-0.45, 0.0), (-0.42, 0.3), (-0.98, lift + 0.15), (-0.98, lift - 0.08))
    a, b = turned(*moved(u, v, -0.1, 0.1), f.between(6, -0.6, 0.4))
    wing = ellipse(a, b, -0.12, 0.0, 0.42, 0.22)
    legs = union(
        segment(u, v, (-0.12, 0.55), (-0.12, 0.92), 0.04),
        segment(u, v, (0.14, 0.55), (0.14, 0.92), 0.04),
    )
    eye = circle(u, v, 0.46, -0.48, 0.075)
    belly = within(body, ellipse(u, v, 0.12, 0.4, 0.4, 0.35)) + f.some(7, 0.6)
    return [
        Part(legs, "fire", 0.1), Part(tail, "dark", 0.3), Part(body, "main", 0.9),
        Part(belly, "light", 0.7), Part(head, "main", 0.9), Part(beak, "fire", 0.4),
        Part(wing, "dark", 0.5), Part(eye, "black", 0.2),
    ]  # fmt: skip


def snail(f: Frame) -> list[Part]:
    """A coiled shell on a soft body with two feelers."""
    side = np.where(f.between(0, -1, 1) < 0, -1.0, 1.0).astype(np.float32)
    u, v = f.u * side, f.v
    r = f.between(1, 0.52, 0.62)
    foot = union(
        box(u, v, 0.0, 0.7, 0.82, 0.14, 0.12), segment(u, v, (0.66, 0.66), (0.72, 0.1), 0.16)
    )
    feelers = union(
        segment(u, v, (0.68, 0.0), (f.between(2, 0.5, 0.66), -0.38), 0.045),
        segment(u, v, (0.76, 0.0), (f.between(3, 0.85, 0.98), -0.35), 0.045),
    )
    shell = circle(u, v, -0.12, 0.08, r)
    coil = within(shell, union(
        arc(u, v, -0.08, 0.12, r * 0.62, 0.055), circle(u, v, -0.1, 0.12, r * 0.22)
    ))  # fmt: skip
    return [
        Part(feelers, "skin", 0.3), Part(foot, "skin", 0.7), Part(shell, "main", 0.95),
        Part(coil, "dark", 0.4),
    ]  # fmt: skip


def snowman(f: Frame) -> list[Part]:
    """Two balls of snow with eyes, a carrot, twig arms, a hat and a scarf of the thing's colour."""
    u, v = f.u, f.v
    r, s = f.between(0, 0.5, 0.6), f.between(1, 0.34, 0.42)
    low, top = circle(u, v, 0.0, 0.4, r), circle(u, v, 0.0, -0.3, s)
    lift, drop = f.between(2, -0.35, 0.25), f.between(3, -0.35, 0.25)
    arms = union(
        segment(u, v, (-0.4, 0.25), (-0.95, lift), 0.045),
        segment(u, v, (0.4, 0.25), (0.95, drop), 0.045),
    )
    brim = box(u, v, 0.0, -0.58, 0.42, 0.06)
    hat = union(brim, box(u, v, 0.0, -0.78, 0.26, f.between(4, 0.16, 0.24)))
    scarf = union(
        box(u, v, 0.0, 0.0, 0.36, 0.09, 0.06), box(u, v, f.between(5, 0.1, 0.25), 0.18, 0.09, 0.2)
    )
    eyes = union(circle(u, v, -0.13, -0.36, 0.06), circle(u, v, 0.13, -0.36, 0.06))
    carrot = convex(u, v, (0.0, -0.29), (f.between(6, 0.3, 0.45), -0.2), (0.0, -0.15))
    return [
        Part(arms, "wood", 0.2), Part(union(low, top), "white", 1.0), Part(scarf, "main", 0.4),
        Part(hat, "main", 0.4), Part(eyes, "black", 0.2), Part(carrot, "fire", 0.4),
    ]  # fmt: skip
