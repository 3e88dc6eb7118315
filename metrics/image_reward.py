"""ImageReward v1.0 (arXiv 2304.05977): the reward of a picture and a prompt, by a tuned BLIP.

A ViT-L/16 at 224 pixels, a BERT with cross-attention, and five linear layers; about N(0, 1) over
its training data. Prompts are cut at 35 tokens. Runs on transformers' own BLIP, whose numbers equal
those of the package image-reward 1.5.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, field_validator

from distillbench.api.fields import NEUTRAL
from distillbench.api.metric import MetricInfo, Samples, Scores, mean_scores
from distillbench.score.choice import OneNetwork, published_or_path
from distillbench.score.weights import ScorerFile

NAMED = {
    "image-reward-1.0": ScorerFile(
        "image-reward-1.0",
        "ImageReward.pt",
        "THUDM/ImageReward (vocab.txt: of bert-base-uncased)",
        size=1_790_000_000,
        license="Apache-2.0",
        beside=("vocab.txt",),
    )
}


class ImageReward(OneNetwork):
    """Mean over all pictures, and over the pictures of each prompt category."""

    class Config(BaseModel):
        """Settings.

        Attributes:
            weights: image-reward-1.0 | a folder with ImageReward.pt and vocab.txt, and blip.json
                where the network has other sizes.
        """

        model_config = ConfigDict(frozen=True, extra="forbid")

        weights: Annotated[str, NEUTRAL] = "image-reward-1.0"

        @field_validator("weights")
        @classmethod
        def _known(cls, weights: str) -> str:
            return published_or_path(weights, NAMED)

    info = MetricInfo("ImageReward", higher_is_better=True, format=".3f", per_category=True)

    named = NAMED

    def load(self, device: str = "cpu") -> None:
        """Read the network. Raises MissingWeights, BadInput."""
        from distillbench.score.reward import reward_net

        path = self._choice.path()
        self._net = reward_net(path / "ImageReward.pt" if path.is_dir() else path, device)

    def score(self, samples: Samples, reference: Samples | None = None) -> Scores:
        """The standardised reward per sample."""
        protocol = {"weights": self._choice.kind, "resize": "crop", "tokens": self._net.length}
        return mean_scores(samples, self._net.rewards(samples), protocol, per_category=True)
