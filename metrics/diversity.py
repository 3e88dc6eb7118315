"""Diversity: the mean LPIPS between pictures of one prompt from several noises, over prompts.

A student that gives every noise the same picture is at zero; compare with the teacher's own row.
Needs a sample set that goes through its prompts more than once.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from distillbench.api.metric import MetricInfo, Samples, Scores
from distillbench.core.lazy import torch
from distillbench.files.places import Need
from distillbench.score.groups import by_prompt, groups_need, mean_of_groups

from .lpips import Lpips


class Diversity(Lpips):
    """Mean pairwise perceptual distance within prompts."""

    info = MetricInfo("Diversity", higher_is_better=None, format=".3f", per_sample=False)

    def requirements(self, n: int, prompts: Sequence[str] = ()) -> tuple[Need, ...]:
        """The network, and several samples of a prompt."""
        return (*super().requirements(n, prompts), groups_need(self.name, n, prompts))

    def score(self, samples: Samples, reference: Samples | None = None) -> Scores:
        """The mean over prompts of all pairs. Raises BadInput where no prompt has two samples."""

        def spread(group: Sequence[int]) -> float:
            pairs = list(combinations(group, 2))
            one, two = (samples.data[torch.tensor([p[side] for p in pairs])] for side in (0, 1))
            return float(self._distance(one, two).double().mean())

        protocol = {"weights": self._choice.kind}
        return mean_of_groups(by_prompt(samples), spread, protocol)
