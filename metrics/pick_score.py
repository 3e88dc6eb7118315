"""PickScore v1 (arXiv 2305.01569): a ViT-H/14 CLIP tuned on users' choices, exp(scale) x cosine.

About 18 to 24; some papers print it divided by 100. Comparable on one prompt list only. Pictures go
through the 8-bit resize of the published processor (short side 224, bicubic, centre crop).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from distillbench.api.fields import NEUTRAL
from distillbench.api.metric import MetricInfo, Samples, Scores, mean_scores
from distillbench.score.choice import OneNetwork, among
from distillbench.score.precision import PrecisionConfig
from distillbench.score.weights import CHECKPOINTS, ScorerFile, only_file

NAMED = {
    "pickscore-v1": ScorerFile(
        "pickscore-v1",
        "model.safetensors",
        "yuvalkirstain/PickScore_v1@a4e4367c6dfa7288a00c550414478f865b875800",
        size=3_900_000_000,
        license="MIT",
        beside=("config.json",),
    )
}


class PickScore(OneNetwork):
    """Mean over all pictures, and over the pictures of each prompt category."""

    class Config(PrecisionConfig):
        """Settings.

        Attributes:
            weights: pickscore-v1 | a folder with config.json and a checkpoint of a hub CLIP.
            precision: float32 | bfloat16, of the network's products; bfloat16 has its own keys.
        """

        weights: Annotated[str, NEUTRAL, among(NAMED)] = "pickscore-v1"

    streams = True
    info = MetricInfo("PickScore", higher_is_better=True, per_category=True)

    named = NAMED

    def load(self, device: str = "cpu") -> None:
        """Read the network. Raises MissingWeights, BadInput."""
        from distillbench.score.towers import clip_pair

        self._clip = clip_pair(checkpoint(self._choice.path()), device)

    def score(self, samples: Samples, reference: Samples | None = None) -> Scores:
        """exp(logit_scale) <picture, prompt> per sample."""
        protocol = {"weights": self._choice.kind, "scale": "trained", "resize": "crop"}
        return mean_scores(samples, self._clip.scores(samples), protocol, per_category=True)


def checkpoint(path: Path) -> Path:
    """The file itself, or the one checkpoint of a folder."""
    return only_file(path, CHECKPOINTS) if path.is_dir() else path
