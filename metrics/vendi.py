"""Vendi score (arXiv 2210.02410) of the pictures of one prompt: how many there are in effect.

The exponential of the entropy of the eigenvalues of their CLIP cosine matrix, the mean over
prompts: 1 where all pictures are one, the number of pictures where none is like another. Its scale
depends on the network and on the pictures per prompt; compare with the teacher's own row.
"""

from __future__ import annotations

from collections.abc import Sequence

from distillbench.api.metric import MetricInfo, Samples, Scores
from distillbench.core.lazy import torch
from distillbench.files.places import Need
from distillbench.score.groups import by_prompt, groups_need, mean_of_groups

from .clip import Clip


class Vendi(Clip):
    """Mean Vendi score within prompts."""

    info = MetricInfo("Vendi", higher_is_better=None, format=".3f", per_sample=False)

    def requirements(self, n: int, prompts: Sequence[str] = ()) -> tuple[Need, ...]:
        """The network, and several samples of a prompt."""
        return (*super().requirements(n, prompts), groups_need(self.name, n, prompts))

    def score(self, samples: Samples, reference: Samples | None = None) -> Scores:
        """The mean over prompts. Raises BadInput where no prompt has two samples."""
        from distillbench.score.distances import vendi

        features = self._clip.images(samples)
        groups = by_prompt(samples)
        protocol = {"weights": self._choice.kind, "kernel": "cosine", "resize": "crop"}
        return mean_of_groups(groups, lambda g: vendi(features[torch.tensor(g)]), protocol)
