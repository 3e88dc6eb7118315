"""SW: sliced 1-Wasserstein distance to the exact distribution, in the plane of the gmm world.

The mean over conditions and 64 directions of the 1-D distance between projected samples and the
exact projected mixture. Like every plug-in distance it does not vanish for exact samples: the
floor falls as 1/sqrt(samples per condition), so compare at equal n only.
"""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict, PositiveInt

from distillbench.api.metric import Samples, Scores
from distillbench.core.lazy import torch
from distillbench.score.exact import Condition, ExactMetric, by_condition, exact_info

GRID = 4001


class Sw(ExactMetric):
    """Mean sliced 1-Wasserstein distance, in the world's length unit (modes have std 0.08)."""

    class Config(BaseModel):
        """Settings.

        Attributes:
            projections: directions, spread evenly over the half circle.
        """

        model_config = ConfigDict(frozen=True, extra="forbid")

        projections: PositiveInt = 64

    info = exact_info("SW", higher_is_better=False, format=".3f")

    def score(self, samples: Samples, reference: Samples | None = None) -> Scores:
        """The distance, averaged over the conditions that occur."""
        angles = torch.arange(self.config.projections, dtype=torch.float64)
        angles = angles * (math.pi / self.config.projections)
        directions = torch.stack([angles.cos(), angles.sin()])
        values = [sliced_wasserstein(c, directions) for c in by_condition(samples)]
        return Scores(
            {"": math.fsum(values) / len(values)},
            protocol={"against": "exact mixture", "projections": self.config.projections},
        )


def sliced_wasserstein(condition: Condition, directions: torch.Tensor) -> float:
    """Mean over directions (2, p) of mean_i |x_(i) - Q((i + 1/2) / n)|, Q the exact quantiles."""
    n = len(condition.points)
    projected = (condition.points @ directions).sort(dim=0).values
    levels = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    return float((projected - quantiles(condition, directions, levels)).abs().mean())


def quantiles(condition: Condition, directions: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """(n, p) quantiles of the projected mixture at levels (n,), by inverting its CDF on a grid."""
    centres = condition.centres @ directions
    reach = float(centres.abs().max()) + 8 * condition.std
    x = torch.linspace(-reach, reach, GRID, dtype=torch.float64)
    standard = (x[:, None, None] - centres) / condition.std
    cdf = (torch.special.ndtr(standard) * condition.weights[:, None]).sum(dim=1).T.contiguous()
    wanted = levels.expand(len(cdf), -1).contiguous()
    upper = torch.searchsorted(cdf, wanted).clamp(1, GRID - 1)
    low, high = cdf.gather(1, upper - 1), cdf.gather(1, upper)
    share = ((wanted - low) / (high - low).clamp_min(1e-300)).clamp(0, 1)
    found: torch.Tensor = x[upper - 1] + share * (x[upper] - x[upper - 1])
    return found.T
