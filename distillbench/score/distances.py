"""Distances between two sets of features, float64: Frechet, kernel discrepancies, diversity.

All sums over pairs are kept by interleaved blocks (`score.jackknife`), so that leaving a block out
costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "Moments", "cubic", "discrepancy", "discrepancy_without", "frechet", "gaussian", "moments",
    "pair_sums", "vendi",
]  # fmt: skip

ROWS = 1024
Kernel = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Moments:
    """A Gaussian fitted to n features: mean (d,) and covariance (d, d), divided by n - 1."""

    mean: Tensor
    covariance: Tensor


def moments(features: Tensor) -> Moments:
    """Of features (n, d)."""
    centred = features - features.mean(dim=0)
    return Moments(features.mean(dim=0), centred.T @ centred / (len(features) - 1))


def frechet(one: Tensor, two: Tensor | Moments) -> float:
    """|mu_1 - mu_2|^2 + Tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2)) of features (n, d) and (m, d), float64.

    Never negative. The second set may be given by its moments.
    """
    mean = two.mean if isinstance(two, Moments) else two.mean(dim=0)
    shift = (one.mean(dim=0) - mean).square().sum()
    if isinstance(two, Moments) or min(len(one), len(two)) > one.shape[1]:
        a, b = (x if isinstance(x, Moments) else moments(x) for x in (one, two))
        spread = a.covariance.trace() + b.covariance.trace()
        root = _root_trace(a.covariance, b.covariance)
    else:
        scaled = [(x - x.mean(dim=0)) / (len(x) - 1) ** 0.5 for x in (one, two)]
        spread = scaled[0].square().sum() + scaled[1].square().sum()
        # Singular covariances: the same trace as the nuclear norm of A B' (n x m).
        root = torch.linalg.svdvals(scaled[0] @ scaled[1].T).sum()
    return max(float(shift + spread - 2 * root), 0.0)


def _root_trace(one: Tensor, two: Tensor) -> Tensor:
    """Tr (S_1 S_2)^(1/2) through a symmetric matrix of the same eigenvalues, which stay real.

    L' S_2 L with S_1 = L L'; where S_1 is singular, L is its symmetric root.
    """
    root, failed = torch.linalg.cholesky_ex(one)
    if int(failed):
        values, vectors = torch.linalg.eigh(one)
        root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    product = root.T @ two @ root
    trace: Tensor = torch.linalg.eigvalsh((product + product.T) / 2).clamp_min(0).sqrt().sum()
    return trace


# ---- kernels -------------------------------------------------------------------------------


def cubic(x: Tensor, y: Tensor) -> Tensor:
    """(x . y / d + 1)^3, KID's kernel (arXiv 1801.01401)."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def gaussian(sigma: float) -> Kernel:
    """exp(-|x - y|^2 / 2 sigma^2)."""

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        square = x.square().sum(dim=1)[:, None] + y.square().sum(dim=1) - 2 * x @ y.T
        return (-square.clamp_min(0) / (2 * sigma**2)).exp()

    return kernel


@dataclass(frozen=True)
class PairSums:
    """Sums of a kernel over pairs of two sets, by block: (g, g), with their diagonal and sizes."""

    cross: Tensor
    ones: Tensor
    twos: Tensor
    diagonals: tuple[Tensor, Tensor]
    sizes: tuple[Tensor, Tensor]


def pair_sums(one: Tensor, two: Tensor, kernel: Kernel, blocks: int) -> PairSums:
    """Kernel sums of features (n, d) and (m, d) over `blocks` interleaved blocks of each."""
    members = [_members(len(x), max(blocks, 1)) for x in (one, two)]
    diagonals = tuple(m.T @ _diagonal(x, kernel) for x, m in zip((one, two), members))
    return PairSums(
        _sums(one, two, kernel, members[0], members[1]),
        _sums(one, one, kernel, members[0], members[0]),
        _sums(two, two, kernel, members[1], members[1]),
        (diagonals[0], diagonals[1]), (members[0].sum(dim=0), members[1].sum(dim=0)),
    )  # fmt: skip


def _members(n: int, blocks: int) -> Tensor:
    return torch.nn.functional.one_hot(torch.arange(n) % blocks, blocks).double()


def _diagonal(x: Tensor, kernel: Kernel) -> Tensor:
    return torch.cat([kernel(row[None], row[None])[0] for row in x])


def _sums(x: Tensor, y: Tensor, kernel: Kernel, left: Tensor, right: Tensor) -> Tensor:
    parts = zip(torch.split(x, ROWS), torch.split(left, ROWS), strict=True)
    total: Tensor = torch.stack([m.T @ kernel(part, y) @ right for part, m in parts]).sum(dim=0)
    return total


def discrepancy(sums: PairSums, *, unbiased: bool, keep: Tensor | None = None) -> float:
    """MMD^2 of the two sets (Gretton et al. 2012, eqs. 3 and 5), over the blocks in `keep`."""
    kept = keep if keep is not None else torch.ones(len(sums.cross), dtype=torch.bool)
    within = []
    for own, diagonal, size in zip((sums.ones, sums.twos), sums.diagonals, sums.sizes, strict=True):
        n = float(size[kept].sum())
        total = own[kept][:, kept].sum()
        drop = diagonal[kept].sum() if unbiased else 0.0
        within.append((total - drop) / (n * (n - 1 if unbiased else n)))
    n, m = (float(size[kept].sum()) for size in sums.sizes)
    return float(within[0] + within[1] - 2 * sums.cross[kept][:, kept].sum() / (n * m))


def discrepancy_without(sums: PairSums, *, unbiased: bool) -> list[float]:
    """The same without each block in turn; empty for one block, or blocks of one sample."""
    g = len(sums.cross)
    if g < 2 or min(float(s.min()) for s in sums.sizes) < 2:
        return []
    blocks = torch.arange(g)
    return [discrepancy(sums, unbiased=unbiased, keep=blocks != b) for b in blocks]


def vendi(features: Tensor) -> float:
    """The Vendi score (arXiv 2210.02410) of unit features (n, d), cosine kernel: 1 to n.

    The exponential of the entropy of the eigenvalues of K / n: how many different pictures there
    are in effect.
    """
    values = torch.linalg.svdvals(features.double()).square() / len(features)
    values = values[values > 1e-12]
    return float((-(values * values.log()).sum()).exp())
