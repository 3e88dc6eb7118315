"""The statistics of tables and claims: clustered errors, bootstrap, sign-flip test, Holm.

Prompts are the clusters: all samples of one prompt, of every seed, stay together, so that a hard
prompt drawn by several seeds is not counted as several independent observations. Where a world has
only a handful of prompts, each sampled often, they are no sample of prompts but the whole world:
then single samples are the units and what is said holds for these prompts.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "bootstrap_interval", "cluster_sums", "clustered_stderr", "effect_size", "holm", "mean",
    "prompts_are_fixed", "seeds_stderr", "sign_flip_p", "within_prompts",
]  # fmt: skip

_EXACT_UP_TO = 12
_FEW_PROMPTS = 20
_OFTEN = 10
_CHUNK = 256


def mean(values: Sequence[float]) -> float:
    """The mean, summed exactly so that it depends on no order and no machine."""
    return math.fsum(values) / len(values)


def cluster_sums(
    values: Sequence[float], clusters: Sequence[Hashable]
) -> tuple[list[float], list[int]]:
    """Sum and size of each cluster, in order of first appearance."""
    members: defaultdict[Hashable, list[float]] = defaultdict(list)
    for value, cluster in zip(values, clusters, strict=True):
        members[cluster].append(value)
    return [math.fsum(m) for m in members.values()], [len(m) for m in members.values()]


def clustered_stderr(values: Sequence[float], clusters: Sequence[Hashable]) -> float | None:
    """Standard error of the mean, robust to correlation inside clusters; None below two of them.

    sqrt(G / (G - 1) * sum_g (sum_{i in g} (x_i - mean))^2) / N; with one value a cluster it is the
    usual sd / sqrt(N).
    """
    centre = mean(values)
    sums, sizes = cluster_sums(values, clusters)
    count = len(sums)
    if count < 2:
        return None
    spread = math.fsum((s - n * centre) ** 2 for s, n in zip(sums, sizes, strict=True))
    return math.sqrt(count / (count - 1) * spread) / len(values)


def prompts_are_fixed(prompts: Sequence[str], *, seeds: int = 1) -> bool:
    """Whether the prompts are a whole small world: under 20, each 10 times a seed on average."""
    distinct = len(set(prompts))
    return distinct < _FEW_PROMPTS and len(prompts) >= _OFTEN * distinct * seeds


def within_prompts(values: Sequence[float], prompts: Sequence[str]) -> list[float]:
    """Values with their prompt's mean replaced by the mean of all: what varies inside prompts.

    Distances to the mean grow by sqrt((n - 1) / (n - G)), as G prompt means were estimated: an
    error that is computed as of n free values is then right.
    """
    sums, sizes = cluster_sums(values, prompts)
    means = dict(zip(dict.fromkeys(prompts), (s / n for s, n in zip(sums, sizes)), strict=True))
    centre, free = mean(values), len(values) - len(sums)
    scale = math.sqrt((len(values) - 1) / free) if free else 1.0
    return [(v - means[p]) * scale + centre for v, p in zip(values, prompts, strict=True)]


def seeds_stderr(values: Sequence[float]) -> float | None:
    """sd / sqrt(n) over one value a seed; None for a single seed."""
    return clustered_stderr(values, list(range(len(values)))) if values else None


def effect_size(differences: Sequence[float]) -> float | None:
    """Cohen's d_z: mean over standard deviation of paired differences; None when undefined."""
    error = seeds_stderr(differences)
    if not error:
        return None
    return mean(differences) / (error * math.sqrt(len(differences)))


# ---- resampling ----------------------------------------------------------------------------


def bootstrap_interval(
    sums: Sequence[float],
    sizes: Sequence[int],
    *,
    resamples: int = 4000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of sum(sums) / sum(sizes), drawing whole clusters with replacement."""
    import numpy as np

    rng = np.random.default_rng([seed, len(sums)])
    total, count = np.asarray(sums, np.float64), np.asarray(sizes, np.float64)
    means = np.empty(resamples)
    for start in range(0, resamples, _CHUNK):
        stop = min(start + _CHUNK, resamples)
        pick = rng.integers(0, len(total), size=(stop - start, len(total)))
        means[start:stop] = total[pick].sum(axis=1) / count[pick].sum(axis=1)
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def sign_flip_p(sums: Sequence[float], *, flips: int = 4999, seed: int = 0) -> float:
    """Two-sided p-value of "differences are symmetric about 0", flipping whole clusters.

    All sign patterns are counted up to 12 clusters; above, `flips` random ones and the observed
    one: (1 + hits) / (1 + flips), which never is 0.
    """
    import numpy as np

    total = np.asarray(sums, np.float64)
    # A pattern that equals the observed one but for rounding must count as a hit.
    bar = abs(math.fsum(sums)) - 1e-9 * float(np.abs(total).sum())
    if len(total) <= _EXACT_UP_TO:
        patterns = (np.arange(2 ** len(total))[:, None] >> np.arange(len(total))) & 1
        return float((np.abs((1.0 - 2.0 * patterns) @ total) >= bar).mean())
    rng = np.random.default_rng([seed, len(total)])
    hits, whole = 0, math.fsum(sums)
    for start in range(0, flips, _CHUNK):
        kept = _bits(rng, min(_CHUNK, flips - start), len(total)) @ total
        hits += int((np.abs(2 * kept - whole) >= bar).sum())
    return (1 + hits) / (1 + flips)


def _bits(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Random zeros and ones of shape (rows, columns), one random bit each."""
    import numpy as np

    width = -(-columns // 8)
    drawn = np.frombuffer(rng.bytes(rows * width), np.uint8).reshape(rows, width)
    return np.unpackbits(drawn, axis=1, count=columns).astype(np.float64)


def holm(p_values: Sequence[float], *, awaited: int = 0) -> list[float]:
    """Adjusted p-values that keep the family-wise error (Holm 1979), in the given order.

    Args:
        awaited: tests of the family whose p-values are not known yet; each counts as the largest.
    """
    family = len(p_values) + awaited
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        running = max(running, min(1.0, (family - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted
