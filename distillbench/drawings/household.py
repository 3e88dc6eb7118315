"""What stands about a house: crockery, lamps, clocks, a cake."""

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
    segment,
    union,
    within,
)

__all__ = ["cake", "candle", "clock", "crown", "cup", "lamp", "umbrella"]


def cup(f: Frame) -> list[Part]:
    """A cup with a handle on one side, some with a saucer or steam."""
    side = np.where(f.between(0, -1, 1) < 0, -1.0, 1.0).astype(np.float32)
    u, v = f.u * side, f.v
    rim, foot, top = f.between(1, 0.5, 0.66), f.between(2, 0.32, 0.5), f.between(3, -0.35, -0.1)
    body = convex(u, v, (-rim, top), (rim, top), (foot, 0.72), (-foot, 0.72))
    handle = cut(arc(u, v, rim * 0.92, 0.2, 0.28, 0.09), body)
    drink = ellipse(u, v, 0.0, top, rim, 0.13)
    saucer = ellipse(u, v, 0.0, 0.76, 0.92, 0.13) + f.some(4, 0.5)
    wave = 0.09 * np.sin(v * 9 + f.between(5, 0.0, 6.0))
    steam = union(
        box(u + wave, v, -0.2, top - 0.38, 0.055, 0.22, 0.05),
        box(u + wave, v, 0.2, top - 0.42, 0.055, 0.22, 0.05),
    ) + f.some(6, 0.55)
    return [
        Part(steam, "white", 0.0), Part(saucer, "white", 0.4), Part(handle, "main", 0.7),
        Part(body, "main", 0.7), Part(drink, "wood", 0.1),
    ]  # fmt: skip


def umbrella(f: Frame) -> list[Part]:
    """A dome with scallops and ribs on a hooked stick, tilted."""
    f = f.turn(0, 22)
    u, v = f.u, f.v
    wide, edge = f.between(1, 0.85, 0.98), f.between(2, 0.0, 0.12)
    dome = within(ellipse(u, v, 0.0, edge, wide, edge + f.between(3, 0.75, 0.9)), v - edge)
    count = f.whole(4, 3, 5)
    scallop = np.abs(np.sin((u / wide + 1) * np.float32(np.pi / 2) * count)) * 0.13
    dome = within(dome, v - edge + scallop)
    panel = within(dome, np.abs(u) - 0.3 * wide * np.clip((v + 0.9), 0.05, 1.0))
    stick = segment(u, v, (0.0, -0.95), (0.0, 0.75), 0.05)
    hook = within(arc(u, v, 0.15, 0.75, 0.15, 0.05), 0.75 - v)
    return [
        Part(union(stick, hook), "wood", 0.5),
        Part(dome, "main", 0.6),
        Part(panel, "accent", 0.6),
    ]


def clock(f: Frame) -> list[Part]:
    """A round clock with two hands, some with bells and feet."""
    u, v = f.u, f.v
    radius = f.between(0, 0.68, 0.82)
    rim, face = (
        circle(u, v, 0.0, 0.05, radius),
        circle(u, v, 0.0, 0.05, radius - f.between(1, 0.14, 0.22)),
    )
    a, b = f.between(2, 0.0, 6.28), f.between(3, 0.0, 6.28)
    long = segment(u, v, (0.0, 0.05), (0.5 * np.sin(a), 0.05 - 0.5 * np.cos(a)), 0.05)
    short = segment(u, v, (0.0, 0.05), (0.32 * np.sin(b), 0.05 - 0.32 * np.cos(b)), 0.075)
    bells = union(circle(u, v, -0.5, -0.68, 0.24), circle(u, v, 0.5, -0.68, 0.24)) + f.some(4, 0.6)
    feet = union(
        segment(u, v, (-0.4, 0.6), (-0.58, 0.92), 0.08),
        segment(u, v, (0.4, 0.6), (0.58, 0.92), 0.08),
    ) + f.some(4, 0.6)
    return [
        Part(feet, "dark", 0.5), Part(bells, "dark", 0.9), Part(rim, "main", 0.6),
        Part(face, "white", 0.3), Part(union(long, short), "black", 0.1),
    ]  # fmt: skip


def cake(f: Frame) -> list[Part]:
    """One or two tiers with icing that drips, and a cherry or a candle."""
    u, v = f.u, f.v
    wide, top = f.between(0, 0.66, 0.88), f.between(1, 0.05, 0.25)
    base = box(u, v, 0.0, (0.85 + top) / 2, wide, (0.85 - top) / 2, 0.06)
    drip = 0.09 * np.sin(u * f.between(2, 9.0, 14.0) + f.between(3, 0.0, 6.0))
    icing = within(base, v - top - 0.2 - drip)
    tier_w = wide * f.between(4, 0.5, 0.68)
    tier = box(u, v, 0.0, top - 0.22, tier_w, 0.24, 0.05) + f.some(5, 0.65)
    above = np.where(f.some(5, 0.65) > 0, top, top - 0.46).astype(np.float32)
    cherry = circle(u, v, 0.0, above - 0.12, 0.14)
    plate = ellipse(u, v, 0.0, 0.88, 0.98, 0.1)
    return [
        Part(plate, "white", 0.4), Part(base, "skin", 0.4), Part(icing, "main", 0.5),
        Part(tier, "main", 0.5), Part(cherry, "accent", 1.0),
    ]  # fmt: skip


def candle(f: Frame) -> list[Part]:
    """A candle with a flame on a holder, its wax running."""
    u, v = f.u, f.v
    wide, top = f.between(0, 0.2, 0.34), f.between(1, -0.4, 0.05)
    wax = box(u, v, 0.0, (0.72 + top) / 2, wide, (0.72 - top) / 2, 0.05)
    run = box(u, v, f.between(2, -0.15, 0.15), top + 0.15, 0.08, f.between(3, 0.15, 0.35), 0.07)
    lean = f.between(4, -0.25, 0.25) * (v - top)
    fire = within(
        circle(u - lean, v, 0.12, top - 0.3, 0.28), circle(u - lean, v, -0.12, top - 0.3, 0.28)
    )
    core = ellipse(u - lean, v, 0.0, top - 0.24, 0.07, 0.12)
    wick = segment(u, v, (0.0, top - 0.12), (0.0, top), 0.035)
    dish = convex(u, v, (-0.72, 0.62), (0.72, 0.62), (0.45, 0.9), (-0.45, 0.9))
    return [
        Part(wick, "black", 0.0), Part(fire, "fire", 0.2), Part(core, "white", 0.0),
        Part(wax, "main", 0.7), Part(run, "light", 0.4), Part(dish, "metal", 0.6),
    ]  # fmt: skip


def lamp(f: Frame) -> list[Part]:
    """A table lamp: a trapezoid shade on a stem with a foot."""
    u, v = f.u, f.v
    top, low = f.between(0, 0.25, 0.45), f.between(1, 0.65, 0.9)
    edge = f.between(2, -0.1, 0.1)
    shade = convex(u, v, (-top, -0.88), (top, -0.88), (low, edge), (-low, edge))
    band = within(shade, np.abs(v - edge + 0.12) - 0.07) + f.some(3, 0.6)
    glow = ellipse(u, v, 0.0, edge, low * 0.8, 0.1)
    bulge = f.between(4, 0.1, 0.26)
    stem = union(box(u, v, 0.0, 0.4, 0.07, 0.5), ellipse(u, v, 0.0, 0.5, bulge, 0.26))
    foot = box(u, v, 0.0, 0.86, f.between(5, 0.3, 0.5), 0.09, 0.05)
    return [
        Part(stem, "wood", 0.7), Part(foot, "wood", 0.5), Part(glow, "fire", 0.0),
        Part(shade, "main", 0.6), Part(band, "accent", 0.5),
    ]  # fmt: skip


def crown(f: Frame) -> list[Part]:
    """A band with three or more points, jewels on it."""
    u, v = f.u, f.v
    flare, low = f.between(0, 0.0, 0.18), f.between(1, -0.05, 0.2)
    peak = f.between(2, -0.85, -0.6)
    band = box(u, v, 0.0, 0.5, 0.72, 0.2, 0.04)
    wide = 0.72 + flare
    tooth = 0.36
    points = union(
        convex(u, v, (-wide, peak + 0.15), (-0.72 + tooth, 0.4), (-0.72, 0.4)),
        convex(u, v, (0.0, peak), (tooth, 0.4), (-tooth, 0.4)),
        convex(u, v, (wide, peak + 0.15), (0.72, 0.4), (0.72 - tooth, 0.4)),
    )
    body = union(band, points, within(box(u, v, 0.0, 0.35, 0.68, 0.3), low - v))
    balls = union(
        circle(u, v, -wide, peak + 0.15, 0.11), circle(u, v, 0.0, peak, 0.12),
        circle(u, v, wide, peak + 0.15, 0.11),
    )  # fmt: skip
    x, _ = moved(u, v, 0.0, 0.0)
    jewels = union(
        circle(x, v, 0.0, 0.48, 0.13), circle(x, v, -0.42, 0.48, 0.1), circle(x, v, 0.42, 0.48, 0.1)
    )
    return [
        Part(body, "main", 0.5), Part(balls, "light", 0.9),
        Part(jewels + f.some(3, 0.8), "accent", 0.9),
    ]  # fmt: skip
