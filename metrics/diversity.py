"""Diversity: the mean LPIPS between pictures of one prompt from several noises, over prompts.

A student that gives every noise the same picture is at zero; compare with the teacher's own row.
Needs a sample set that goes through its prompts more than once.
"""

from __future__ import annotations

from collections.abc import Sequence

from distillbench.api.metric import MetricInfo, Samples, Scores
from distillbench.core.lazy import torch
from distillbench.files.places import Need
from distillbench.score.groups import by_prompt, groups_need, mean_of_groups
from distillbench.score.progress import in_parts

from .lpips import Lpips, at_once


class Diversity(Lpips):
    """Mean pairwise perceptual distance within prompts."""

    info = MetricInfo("Diversity", higher_is_better=None, format=".3f", per_sample=False)

    def requirements(self, n: int, prompts: Sequence[str] = ()) -> tuple[Need, ...]:
        """The network, and several samples of a prompt."""
        return (*super().requirements(n, prompts), groups_need(self.name, n, prompts))

    def score(self, samples: Samples, reference: Samples | None = None) -> Scores:
        """The mean over prompts of all pairs. Raises BadInput where no prompt has two samples."""

        size = at_once(samples)

        def spread(group: Sequence[int]) -> float:
            pictures = samples.data[torch.tensor(group)]
            pairs = torch.combinations(torch.arange(len(group)))
            apart = [self._distance(*pictures[pairs[p].T]) for p in in_parts(len(pairs), size)]
            return float(torch.cat(apart).double().mean())

        protocol = {"weights": self._choice.kind}
        return mean_of_groups(by_prompt(samples), spread, protocol)
