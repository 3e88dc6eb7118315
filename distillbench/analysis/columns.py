"""Names of columns: which metric one means, and what backbones are called."""

from __future__ import annotations

from collections.abc import Sequence

from distillbench.experiment.schema import Experiment

__all__ = ["backbone_labels", "find_metric"]


def backbone_labels(experiment: Experiment) -> dict[str, str]:
    """Backbone alias -> the label a table shows."""
    labels = {}
    for alias, ref in experiment.backbones.items():
        label = ref.get("label", "") if isinstance(ref, dict) else getattr(ref, "label", "")
        labels[alias] = label or alias
    return labels


def find_metric(name: str, metrics: Sequence[str]) -> tuple[str, str] | None:
    """Split a column name into (metric id, suffix); None when it names no metric."""
    if name in metrics:
        return name, ""
    for metric in sorted(metrics, key=len, reverse=True):
        if name.startswith(f"{metric}_"):
            return metric, name[len(metric) + 1 :]
    return None
