"""FID (arXiv 1706.08500): Frechet distance between Gaussians fitted to features of two sets.

The other set is the reference samples (FID to the teacher) or real pictures. FID falls with n,
roughly as 1/n, so values at different n, extractor or resize are never comparable; the teacher's
own row at another seed shows the floor at this n. Where the reference shares the noise of the
samples, a method that keeps the teacher's map from noise to picture can fall below that floor
(metrics/README.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from distillbench.api.metric import MetricInfo, Scores
from distillbench.core.lazy import torch
from distillbench.score.jackknife import leave_out, whole_set
from distillbench.score.real import real_place
from distillbench.score.sets import SetConfig, SetMetric

CAVEAT = (
    "biased upward at small n, roughly as 1/n (here n = {n}), the more the less noise a row shares "
    "with its reference"
)


class FrechetConfig(SetConfig):
    """Settings.

    Attributes:
        weights: the extractor: tiny | inception-2015 | the folder of a net like the tiny one |
            PATH#sha256=DIGEST, a TorchScript file such as inception-2015: loading one runs its
            program, so the digest says which program is meant.
        reference: what samples are compared with: "" is the file's `reference`, else real pictures
            ({images: ...} or plain): a folder, the .npz of clean-fid, or the name of either under
            `<data root>/images`.
        blocks: of the jackknife behind the standard error; 0 gives none.
        allow_small_n: accept n <= the feature dimension, where the covariance is singular.
    """

    allow_small_n: bool = False


class Fid(SetMetric):
    """Frechet distance to the reference samples, or to real pictures."""

    Config = FrechetConfig
    version = 2
    moments = True
    info = MetricInfo(
        "FID", higher_is_better=False, needs_reference=True, per_sample=False, caveat=CAVEAT
    )

    def compare(self, one: torch.Tensor, two: Any) -> Scores:
        """The distance, with a jackknife error over prompts.

        That error is about the spread and not about the bias; where the two sets hardly differ it
        is up to 1.6 times too large, and never was found too small (docs/metrics.md).
        """
        from distillbench.score.distances import frechet

        left_out = leave_out(_without(one, two), len(one), self.config.blocks)
        return Scores({"": frechet(one, two)}, **whole_set(left_out))

    def _other(self) -> Any:
        from distillbench.score.distances import Moments
        from distillbench.score.real_features import real_moments

        if given := real_moments(real_place(self._real), self._net):
            return Moments(*(array.to(self._device) for array in given))
        return super()._other()

    def _too_few(self, n: int, dim: int) -> tuple[str, str]:
        if n < 2:
            return f"FID needs at least 2 samples for a covariance, not {n}", "raise sample.n"
        if n > dim or self.config.allow_small_n:
            return "", ""
        what = f"FID with {dim}-d features needs more than {dim} samples, not {n}"
        return what, "raise sample.n, or set allow_small_n if a biased number will do"


def _without(one: torch.Tensor, two: Any) -> Callable[[torch.Tensor], float]:
    from distillbench.score.distances import Moments, frechet, moments

    if isinstance(two, Moments) or len(one) != len(two):
        fixed = two if isinstance(two, Moments) or len(two) <= two.shape[1] else moments(two)
        return lambda stay: frechet(one[stay], fixed)
    # A prompt leaves both sets at once where they share prompts: their features are paired.
    return lambda stay: frechet(one[stay], two[stay])
