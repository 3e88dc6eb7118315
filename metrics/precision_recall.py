"""Improved precision and recall (arXiv 1904.06991), through torch-fidelity.

A sample counts as precise where it lies within the distance of some reference sample to its third
nearest neighbour among the reference; recall is the same with the sets exchanged. Here of Inception
features (the paper: VGG16 at 50,000 samples); both grow and shrink with n, so n is in the protocol.
"""

from __future__ import annotations

from typing import Any

from distillbench.api.metric import MetricInfo, Scores
from distillbench.core.lazy import torch
from distillbench.score.sets import SetMetric

NEIGHBOURS = 3


class PrecisionRecall(SetMetric):
    """Precision, and in column `recall` recall; for both, higher is better."""

    least = NEIGHBOURS + 1
    info = MetricInfo(
        "Precision", higher_is_better=True, format=".3f", needs_reference=True, per_sample=False
    )

    def compare(self, one: torch.Tensor, two: Any) -> Scores:
        """Both shares; no error, as neighbours change when a block leaves."""
        from torch_fidelity.metric_prc import calculate_precision_recall_full

        precision, recall = calculate_precision_recall_full(one, two, NEIGHBOURS)
        protocol = {"neighbours": NEIGHBOURS}
        return Scores({"": float(precision), "recall": float(recall)}, protocol=protocol)
