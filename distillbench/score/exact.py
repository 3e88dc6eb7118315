"""Samples of the exact mixture world beside the distribution they should have, by condition.

A score of that world is an `ExactMetric` whose `info` is an `exact_info`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial

from pydantic import BaseModel, ConfigDict

from distillbench.api.metric import Metric, MetricInfo, Samples
from distillbench.core.lazy import torch
from distillbench.errors import BadInput
from distillbench.world.mixture import CONDITIONS, labels_of, mixture

__all__ = ["Condition", "ExactMetric", "by_condition", "exact_info"]

exact_info = partial(MetricInfo, modality=frozenset({"point"}), per_sample=False)


class ExactMetric(Metric):
    """What the scores of this world share."""

    class Config(BaseModel):
        """There are no settings."""

        model_config = ConfigDict(frozen=True, extra="forbid")

    def revision(self) -> str:
        """Hash of the world's numbers."""
        return hashlib.sha256(repr(mixture()).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Condition:
    """One condition's samples and its exact Gaussian mixture, all float64 on the CPU.

    Attributes:
        index: (n,) positions of its samples in the set.
        points: (n, 2).
        centres: (modes, 2).
        weights: (modes,), summing to one.
        std: of every mode, in both directions.
    """

    index: torch.Tensor
    points: torch.Tensor
    centres: torch.Tensor
    weights: torch.Tensor
    std: float


def by_condition(samples: Samples, *, at_least: int = 1) -> list[Condition]:
    """The conditions that occur, in order.

    Raises:
        BadInput: a prompt of another world, or a condition with fewer than `at_least` samples.
    """
    world, labels = mixture(), torch.tensor(labels_of(samples.prompts))
    if bool((labels >= CONDITIONS).any()):
        raise BadInput("the empty prompt has no distribution of its own to compare with")
    found = []
    for label in sorted(set(labels.tolist())):
        index = (labels == label).nonzero()[:, 0]
        if len(index) < at_least:
            raise BadInput(
                f"condition {label} has {len(index)} sample; this score needs {at_least}",
                hint="raise sample.n",
            )
        points = samples.data[index].double()
        centres = torch.tensor(world.centres[label], dtype=torch.float64)
        weights = torch.tensor(world.weights[label], dtype=torch.float64)
        found.append(Condition(index, points, centres, weights, world.std))
    return found
