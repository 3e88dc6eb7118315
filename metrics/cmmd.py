"""CMMD (arXiv 2401.09603): squared kernel discrepancy of CLIP image features, times 1000.

A Gaussian kernel of sigma 10 on unit features of OpenAI's ViT-L/14 at 336 pixels, pictures cropped
to a square. The value is the paper's biased statistic (the diagonal counts), which falls with n;
column `unbiased` has none of that bias and may be negative.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from distillbench.api.fields import NEUTRAL
from distillbench.api.metric import MetricInfo, Samples, Scores
from distillbench.core.lazy import torch
from distillbench.score.choice import OPENAI, among
from distillbench.score.jackknife import whole_set
from distillbench.score.precision import PrecisionConfig
from distillbench.score.real import RealPictures
from distillbench.score.sets import SetMetric

SIGMA = 10.0
SCALE = 1000.0


class Cmmd(SetMetric):
    """Kernel distance of CLIP features to the reference samples, or to real pictures."""

    class Config(PrecisionConfig):
        """Settings.

        Attributes:
            weights: tiny | openai-ViT-L-14-336 (the paper's) | openai-ViT-L-14 | openai-ViT-B-32 |
                a folder with an open_clip JSON and a checkpoint.
            reference: what samples are compared with: "" is the file's `reference`, else real
                pictures ({images: ...} or plain): a folder, or an .npz with their `feats`.
            blocks: of the jackknife behind the standard error; 0 gives none.
            precision: float32 | bfloat16, of the network's products; bfloat16 has its own keys.
        """

        weights: Annotated[str, NEUTRAL, among(OPENAI, "tiny")] = "tiny"
        reference: RealPictures = ""
        blocks: int = Field(10, ge=0)

    named = OPENAI
    tiny = "tiny-clip"
    info = MetricInfo(
        "CMMD", higher_is_better=False, format=".3f", unit="1e-3", needs_reference=True,
        per_sample=False, caveat="biased upward at small n (here n = {n}); `unbiased` is not",
    )  # fmt: skip

    def _network(self, path: Path, device: str) -> Any:
        return _Eye(self._choice.clip("crop"), device)

    def compare(self, one: torch.Tensor, two: Any) -> Scores:
        """Both statistics, each with its value without each block."""
        from distillbench.score.distances import (
            discrepancy,
            discrepancy_without,
            gaussian,
            pair_sums,
        )

        sums = pair_sums(one, two, gaussian(SIGMA), self.config.blocks)
        values, blocks = {}, {}
        for column, unbiased in (("", False), ("unbiased", True)):
            values[column] = SCALE * discrepancy(sums, unbiased=unbiased)
            blocks[column] = [SCALE * v for v in discrepancy_without(sums, unbiased=unbiased)]
        return Scores(values, **whole_set(blocks), protocol={"kernel": f"gaussian {SIGMA:g}"})

    def _features_known(self) -> int:
        return 0


class _Eye:
    """The image tower of a CLIP as a feature net."""

    resize = "crop"

    def __init__(self, source: Any, device: str) -> None:
        from distillbench.score.features import clip_extractor

        self.clip = clip_extractor(source, device)
        self.dim = int(self.clip.net.visual.output_dim)

    def features(self, samples: Samples) -> torch.Tensor:
        return self.clip.images(samples)

    def encode(self, data: torch.Tensor) -> torch.Tensor:
        return self.clip.encode(data)
