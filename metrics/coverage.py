"""Mode coverage in the gmm world: which modes a student reaches, how tightly, how evenly.

A sample belongs to the nearest mode of its own condition. A mode counts as covered when it holds at
least a tenth of the samples its weight promises, within three standard deviations (our choice).
"""

from __future__ import annotations

import math

from distillbench.api.metric import Samples, Scores
from distillbench.core.lazy import torch
from distillbench.score.exact import Condition, ExactMetric, by_condition, exact_info

REACH = 3.0
SHARE = 0.1


class Coverage(ExactMetric):
    """Share of covered modes, averaged over conditions.

    Further columns: `within`, the share of samples within three standard deviations of a mode
    (0.989 for exact samples), and `balance`, one minus the total variation between the shares of
    the modes and their weights. For all three, higher is better.
    """

    info = exact_info("Coverage", higher_is_better=True, format=".3f")

    def score(self, samples: Samples, reference: Samples | None = None) -> Scores:
        """All three columns; `within` also per sample, as 0 or 1."""
        inside = torch.zeros(len(samples), dtype=torch.float64)
        covered, balance = [], []
        for condition in by_condition(samples):
            mode, near = nearest(condition)
            inside[condition.index] = near.double()
            covered.append(share_covered(condition, mode[near]))
            balance.append(1 - variation(condition, mode))
        aggregate = {
            "": math.fsum(covered) / len(covered),
            "within": float(inside.mean()),
            "balance": math.fsum(balance) / len(balance),
        }
        protocol = {"against": "exact mixture", "reach": REACH, "covered_share": SHARE}
        return Scores(aggregate, per_sample={"within": inside.tolist()}, protocol=protocol)


def nearest(condition: Condition) -> tuple[torch.Tensor, torch.Tensor]:
    """(n,) nearest mode of each point, and whether it is within reach."""
    distance, mode = torch.cdist(condition.points, condition.centres).min(dim=1)
    return mode, distance <= REACH * condition.std


def share_covered(condition: Condition, modes: torch.Tensor) -> float:
    """Share of modes that hold at least `SHARE` of their due, given the modes of near samples."""
    counts = torch.bincount(modes, minlength=len(condition.weights))
    due = condition.weights * len(condition.points)
    return float((counts >= (SHARE * due).clamp_min(1)).double().mean())


def variation(condition: Condition, modes: torch.Tensor) -> float:
    """Total variation distance between the shares of the modes and their weights."""
    counts = torch.bincount(modes, minlength=len(condition.weights))
    return float((counts / len(modes) - condition.weights).abs().sum()) / 2
