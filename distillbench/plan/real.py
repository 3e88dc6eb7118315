"""Real pictures of an experiment: which metrics are given them, and where they are named."""

from __future__ import annotations

from distillbench.api.registry import METRICS
from distillbench.experiment.schema import Experiment
from distillbench.files.marks import MapNode, Mark, locate, merge

__all__ = ["metric_mark", "with_real"]

SETTING = "reference"


def metric_mark(experiment: Experiment, name: str) -> Mark:
    """Where a metric, or the real pictures that it compares with, are named."""
    index = [ref.key for ref in experiment.metrics].index(name)
    if experiment.metrics[index].params.get(SETTING):
        return locate(experiment.tree, ("metrics", index, "params", SETTING))[0]
    real = _images(experiment)
    return locate(experiment.tree, (SETTING, "images") if real else ("metrics", index, "use"))[0]


def with_real(experiment: Experiment, use: str, params: MapNode) -> MapNode:
    """The settings of a metric, with the file's real pictures where it takes such."""
    real = _images(experiment)
    if not real or params.get(SETTING) or use not in METRICS.names():
        return params
    kind = METRICS.get(use)
    if not kind.info.needs_reference or SETTING not in kind.Config.model_fields:
        return params
    given = MapNode()
    given.put(SETTING, real, locate(experiment.tree, (SETTING, "images"))[0])
    merged: MapNode = merge(params, given)
    return merged


def _images(experiment: Experiment) -> str:
    return experiment.reference.images if experiment.reference else ""
