"""Tail probabilities that the standard library lacks: F, and a sum of two Student variables."""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ["behrens_fisher_quantile", "behrens_fisher_tail", "f_tail", "wilson"]

_NORMAL_FROM = 300  # degrees of freedom from which Student's t is taken as normal


def behrens_fisher_tail(x: float, parts: tuple[float, float], dfs: tuple[int, int]) -> float:
    """P(|a T_m + b T_n| > x), a^2 and b^2 the two `parts` over their sum, T Student's t.

    The law of (mean - truth) / error where two independent variances make up the error, known
    with m and n degrees of freedom (Behrens 1929, Fisher 1935). One part 0 gives Student's t of the
    other. Given both chi-squares the sum is normal, so it is an integral of a normal tail.
    """
    whole = parts[0] + parts[1]
    grids = [_chi_square(df) if part else [(1.0, 1.0)] for part, df in zip(parts, dfs)]
    return math.fsum(
        p * q * math.erfc(x / math.sqrt(2 * (parts[0] / u + parts[1] / v) / whole))
        for u, p in grids[0]
        for v, q in grids[1]
    )


def behrens_fisher_quantile(
    level: float, parts: tuple[float, float], dfs: tuple[int, int]
) -> float:
    """The x that |a T_m + b T_n| stays below with probability `level`."""
    return _root(lambda x: behrens_fisher_tail(x, parts, dfs) - (1 - level))


def f_tail(x: float, m: int, n: int) -> float:
    """P(F > x) of Fisher's F with m and n degrees of freedom: an incomplete beta function."""
    return _beta(n / (n + m * x), n / 2, m / 2) if x > 0 else 1.0


def wilson(share: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of n (1927); it never leaves 0..1."""
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def _chi_square(df: int) -> list[tuple[float, float]]:
    """Nodes and weights for expectations over chi^2_df / df; one node at 1 where df is large.

    The trapezoidal rule in log(chi^2 / df), whose density falls so fast that it converges.
    """
    if df >= _NORMAL_FROM:
        return [(1.0, 1.0)]
    low, high = -60.0 / df, math.log(1 + 12 / math.sqrt(df) + 40 / df)
    if df > 8:
        low = max(low, -14 / math.sqrt(df))
    nodes = 96 if df <= 8 else 32
    logs = [low + (high - low) * i / nodes for i in range(nodes + 1)]
    weights = [math.exp(df / 2 * (u - math.exp(u) + 1)) for u in logs]
    total = math.fsum(weights)
    return [(math.exp(u), w / total) for u, w in zip(logs, weights, strict=True)]


def _root(falling: Callable[[float], float]) -> float:
    low, high = 0.0, 2.0
    while falling(high) > 0:
        low, high = high, high * 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
        if high - low < 1e-7 * high:
            break
    return (low + high) / 2


def _beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function, by its continued fraction (DLMF 8.17.22)."""
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta(1 - x, b, a)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front += a * math.log(x) + b * math.log1p(-x) if 0 < x < 1 else -math.inf
    fraction = 1.0
    for m in range(200, 0, -1):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m - 1) * (a + b + m - 1) * x / ((a + 2 * m - 2) * (a + 2 * m - 1))
        fraction = 1 + odd / (1 + even / fraction)
    return math.exp(front) / (a * fraction)
