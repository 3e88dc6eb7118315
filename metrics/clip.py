"""CLIP score (arXiv 2104.08718): 100 x cosine of picture and prompt, not clamped at zero.

The network is part of the number's name: published tables use several, and their values differ
by tens of points.
"""

from __future__ import annotations

from typing import Annotated

from distillbench.api.fields import NEUTRAL
from distillbench.api.metric import MetricInfo, Samples, Scores, mean_scores
from distillbench.score.choice import OPENAI, OneNetwork, among
from distillbench.score.precision import PrecisionConfig
from distillbench.score.weights import ScorerFile

NAMED = OPENAI | {
    "openclip-ViT-bigG-14": ScorerFile(
        "openclip-ViT-bigG-14",
        "open_clip_pytorch_model.bin",
        "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k",
        arch="ViT-bigG-14",
        size=10_200_000_000,
        license="MIT",
    )
}


class Clip(OneNetwork):
    """Mean cosine over all pictures; the prompt goes in as it is, cut at 77 tokens."""

    class Config(PrecisionConfig):
        """Settings.

        Attributes:
            weights: tiny | openai-ViT-L-14 | openai-ViT-L-14-336 | openai-ViT-B-32 |
                openclip-ViT-bigG-14 | a folder with an open_clip JSON and a checkpoint.
            precision: float32 | bfloat16, of the network's products; bfloat16 has its own keys.
        """

        weights: Annotated[str, NEUTRAL, among(NAMED, "tiny")] = "tiny"

    streams = True
    info = MetricInfo("CLIP", higher_is_better=True, modality=frozenset({"image", "video"}))

    named, tiny = NAMED, "tiny-clip"

    def load(self, device: str = "cpu") -> None:
        """Read the network. Raises MissingWeights."""
        from distillbench.score.features import clip_extractor

        self._clip = clip_extractor(self._choice.clip("crop"), device)

    def score(self, samples: Samples, reference: Samples | None = None) -> Scores:
        """100 <picture, prompt> per sample; of a video the mean over its frames."""
        from distillbench.score.frames import frames_of, per_video

        frames = frames_of(samples)
        cosine = (self._clip.images(frames) * self._clip.texts(frames.prompts)).sum(dim=-1)
        cosine = per_video(cosine, samples)
        protocol = {"weights": self._choice.kind, "scale": "100 cosine", "resize": "crop"}
        return mean_scores(samples, (100 * cosine).tolist(), protocol)
