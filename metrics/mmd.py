"""MMD^2 to the exact distribution of the gmm world, times 1000 (Gretton et al., 2012).

The kernel is the mean of three Gaussian ones, bandwidths 0.1, 0.3 and 1 (the width of a mode, the
gap between modes, the world). Expectations over the exact mixture are closed-form and the sample
term is the U-statistic, so the value is unbiased: exact samples give zero on average, and a value
may be negative.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from distillbench.api.metric import Samples, Scores
from distillbench.core.lazy import torch
from distillbench.files.places import Need
from distillbench.score.exact import Condition, ExactMetric, by_condition, exact_info
from distillbench.score.progress import tick
from distillbench.world.mixture import labels_of

BANDWIDTHS = (0.1, 0.3, 1.0)
ROWS = 256
LEAST = 3


class Mmd(ExactMetric):
    """Mean MMD^2 over the conditions, times 1000, with its jackknife standard error."""

    info = exact_info("MMD\u00b2", higher_is_better=False, format=".1f", unit="1e-3")

    def requirements(self, n: int, prompts: Sequence[str] = ()) -> tuple[Need, ...]:
        """Three samples of each condition that occurs."""
        drawn = [] if n >= LEAST * len(prompts) else [prompts[i % len(prompts)] for i in range(n)]
        few = sum(count < LEAST for count in Counter(labels_of(drawn)).values())
        problem = f"{few} conditions have fewer than {LEAST} of the {n} samples" if few else ""
        fix = f"raise sample.n to {LEAST * len(prompts)}" if few else ""
        return (Need("samples", f"of {self.name}", problem, fix),)

    def score(self, samples: Samples, reference: Samples | None = None) -> Scores:
        """The discrepancy, averaged over the conditions that occur. Raises BadInput below 3."""
        conditions = by_condition(samples, at_least=LEAST)
        found = []
        for done, condition in enumerate(conditions):
            tick(done, len(conditions))
            found.append(discrepancy(condition))
        error = math.sqrt(math.fsum(e**2 for _, e in found)) / len(found)
        return Scores(
            {"": 1000 * math.fsum(v for v, _ in found) / len(found)},
            stderr={"": 1000 * error},
            protocol={"against": "exact mixture", "bandwidths": list(BANDWIDTHS), "unbiased": True},
        )


def kernel(square: torch.Tensor, variance: float = 0.0) -> torch.Tensor:
    """Mean over bandwidths h of E exp(-|z|^2 / 2 h^2), |z - m|^2 = square, z ~ N(m, variance I).

    In the plane that is h^2 / (h^2 + variance) exp(-square / 2 (h^2 + variance)).
    """
    terms = [
        h**2 / (h**2 + variance) * (-square / (2 * (h**2 + variance))).exp() for h in BANDWIDTHS
    ]
    return torch.stack(terms).mean(dim=0)


def discrepancy(condition: Condition) -> tuple[float, float]:
    """Unbiased MMD^2 of one condition and its leave-one-out jackknife standard error."""
    points, centres, weights = condition.points, condition.centres, condition.weights
    n, variance = len(points), condition.std**2
    own = (
        torch.cat([kernel(_squares(part, points)).sum(dim=1) for part in torch.split(points, ROWS)])
        - 1
    )
    cross = kernel(_squares(points, centres), variance) @ weights
    exact = weights @ kernel(_squares(centres, centres), 2 * variance) @ weights
    value = own.sum() / (n * (n - 1)) - 2 * cross.mean() + exact
    left_out = (own.sum() - 2 * own) / ((n - 1) * (n - 2)) - 2 * (cross.sum() - cross) / (n - 1)
    spread = (left_out - left_out.mean()).square().sum() * (n - 1) / n
    return float(value), float(spread.sqrt())


def _squares(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(n, m) squared distances, without the cancellation of the expanded form."""
    return (a[:, None] - b[None]).square().sum(dim=2)
