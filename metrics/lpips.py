"""LPIPS (arXiv 1801.03924) between a sample and the teacher's of the same prompt and noise.

How near a student stays to its teacher's very pictures, not how good they are. VGG16 with the
linear layers that torchmetrics ships; tiny: unit feature maps of the tiny net, without layers.
"""

from __future__ import annotations

from typing import Annotated

from distillbench.api.fields import NEUTRAL
from distillbench.api.metric import MetricInfo, Samples, Scores, mean_scores
from distillbench.core.lazy import torch
from distillbench.errors import BadInput, NotSupported
from distillbench.score.choice import OneNetwork, among
from distillbench.score.precision import PrecisionConfig
from distillbench.score.progress import BATCH, in_parts
from distillbench.score.weights import VGG_LEAST, ScorerFile, tiny_misfit, too_small

PIXELS = BATCH * 256**2
NAMED = {
    "lpips-vgg": ScorerFile(
        "lpips-vgg",
        "vgg16-397923af.pth",
        "torchvision's VGG16 (ImageNet)",
        size=553_000_000,
        license="BSD-3-Clause",
    )
}


class Lpips(OneNetwork):
    """Mean perceptual distance to the reference sample of the same number."""

    class Config(PrecisionConfig):
        """Settings.

        Attributes:
            weights: tiny | lpips-vgg | the folder of a net like the tiny one | a file like VGG's.
            precision: float32 | bfloat16, of the network's products; bfloat16 has its own keys.
        """

        weights: Annotated[str, NEUTRAL, among(NAMED, "tiny")] = "tiny"

    streams = True
    info = MetricInfo("LPIPS", higher_is_better=False, format=".3f", needs_reference=True)

    named, tiny = NAMED, "tiny-inception"

    def misfit(self, height: int, width: int) -> str:
        """The tiny net takes samples of its own size, VGG16 none that are too small for it."""
        if self._choice.like_tiny:
            return tiny_misfit(height, width)
        return too_small(f"{self.info.label} with VGG", VGG_LEAST, height, width)

    def load(self, device: str = "cpu") -> None:
        """Read the network. Raises MissingWeights, BadInput."""
        from distillbench.score.towers import perceptual

        self._distance = perceptual(self._choice.path(), device)

    def score(self, samples: Samples, reference: Samples | None = None) -> Scores:
        """The distance of each pair. Raises BadInput where they are no pairs."""
        if reference is None:
            raise NotSupported("LPIPS needs reference samples")
        count = len(samples)
        if list(samples.prompts) != list(reference.prompts[:count]):
            raise BadInput("samples and reference have other prompts: there are no pairs")
        parts = in_parts(count, at_once(samples))
        values = [self._distance(samples.data[p], reference.data[p]) for p in parts]
        protocol = {"weights": self._choice.kind, "same_noise": samples.seed == reference.seed}
        return mean_scores(samples, torch.cat(values).tolist(), protocol)


def at_once(samples: Samples) -> int:
    """Pairs of one batch: VGG's first layers take 64 numbers a pixel."""
    height, width = samples.data.shape[1:3]
    return max(1, min(BATCH, PIXELS // (height * width)))
