"""How the metrics of an experiment are shown."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from distillbench.api.metric import MetricInfo
from distillbench.experiment.schema import Experiment

__all__ = ["metric_infos"]


def metric_infos(experiment: Experiment) -> dict[str, MetricInfo]:
    """Metric id -> how it is shown, asked of the registered plug-ins; no two have one head."""
    from distillbench.api.registry import build_metric

    infos = {}
    for ref in experiment.metrics:
        metric = build_metric(ref.use, ref.params)
        infos[ref.key] = replace(metric.info, label=metric.label())
    heads = Counter(info.label for info in infos.values())
    return {
        key: replace(info, label=f"{info.label} {key}") if heads[info.label] > 1 else info
        for key, info in infos.items()
    }
