"""ImageReward v1.0 (arXiv 2304.05977): the reward of a picture and a prompt, by a tuned BLIP.

A ViT-L/16 at 224 pixels, a BERT with cross-attention, and five linear layers; about N(0, 1) over
its training data. Prompts are cut at 35 tokens. Runs on transformers' own BLIP, whose numbers equal
those of the package image-reward 1.5.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from distillbench.api.fields import NEUTRAL
from distillbench.api.metric import MetricInfo, Samples, Scores, mean_scores
from distillbench.score.choice import among
from distillbench.score.packaged import BackendConfig, Packaged
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


class ImageReward(Packaged):
    """Mean over all pictures, and over the pictures of each prompt category."""

    class Config(BackendConfig):
        """Settings.

        Attributes:
            weights: image-reward-1.0 | a folder with ImageReward.pt and vocab.txt, and blip.json
                where the network has other sizes.
            backend: native | package, the package image-reward in the environment of that name.
            patience: seconds after which a worker that says nothing counts as hung.
            python: the interpreter that has the package; "" is that of the environment.
            precision: float32 | bfloat16, of the network's products; bfloat16 has its own keys.
        """

        weights: Annotated[str, NEUTRAL, among(NAMED)] = "image-reward-1.0"

    streams = True
    info = MetricInfo("ImageReward", higher_is_better=True, format=".3f", per_category=True)

    named, package = NAMED, "image-reward"

    def load(self, device: str = "cpu") -> None:
        """Read the network. Raises MissingWeights, BadInput."""
        from distillbench.score.reward import reward_net

        if self.by_package:
            self.find_package(device)
        else:
            self._net = reward_net(self._file, device)

    @property
    def _file(self) -> Path:
        path = self._choice.path()
        return path / "ImageReward.pt" if path.is_dir() else path

    def score(self, samples: Samples, reference: Samples | None = None) -> Scores:
        """The standardised reward per sample."""
        from distillbench.score.reward import LENGTH, package_sizes

        if self.by_package:
            job = {"checkpoint": str(self._file.absolute()), "text": package_sizes(self._file),
                   "vocabulary": str(self._file.absolute().parent / "vocab.txt")}  # fmt: skip
            values = self.package_scores(samples, job)
        else:
            values = self._net.rewards(samples)
        protocol = {"weights": self._choice.kind, "resize": "crop", "tokens": LENGTH, **self.told()}
        return mean_scores(samples, values, protocol, per_category=True)
