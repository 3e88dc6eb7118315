"""KID (arXiv 1801.01401): squared kernel discrepancy (MMD^2) of Inception features, times 1000.

The cubic kernel (x . y / d + 1)^3 and the unbiased statistic over all samples: what the mean over
random subsets of torch-fidelity estimates, without the noise of choosing them. Its mean is zero for
sets of one distribution at any n, so it may be negative; its jackknife error is sound at small n.
"""

from __future__ import annotations

from typing import Any

from distillbench.api.metric import MetricInfo, Scores
from distillbench.core.lazy import torch
from distillbench.score.jackknife import whole_set
from distillbench.score.sets import SetMetric

SCALE = 1000.0


class Kid(SetMetric):
    """Kernel distance to the reference samples, or to real pictures."""

    info = MetricInfo(
        "KID", higher_is_better=False, unit="1e-3", needs_reference=True, per_sample=False
    )

    def compare(self, one: torch.Tensor, two: Any) -> Scores:
        """The unbiased statistic and its value without each block."""
        from distillbench.score.distances import (
            cubic,
            discrepancy,
            discrepancy_without,
            pair_sums,
        )

        sums = pair_sums(one, two, cubic, self.config.blocks)
        left_out = [SCALE * v for v in discrepancy_without(sums, unbiased=True)]
        protocol = {"kernel": "cubic", "unbiased": True}
        return Scores(
            {"": SCALE * discrepancy(sums, unbiased=True)}, **whole_set(left_out), protocol=protocol
        )
