"""Human preference score v2 (HPSv2, arXiv 2306.09341): 100 x cosine of picture and prompt.

A ViT-H/14 CLIP fine-tuned on human choices. Pictures are padded to a square, never cropped, and
the trained logit scale is not applied. Scores of different prompts are not comparable; compare
sample sets on one prompt list. v2.0 and v2.1 are different scales.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import model_validator

from distillbench.api.fields import NEUTRAL
from distillbench.api.metric import MetricInfo, Samples, Scores, mean_scores
from distillbench.core.lazy import torch
from distillbench.errors import BadInput
from distillbench.score.choice import among
from distillbench.score.packaged import BackendConfig, Packaged
from distillbench.score.weights import ScorerFile, ScorerResize, arch_of

SOURCE = "xswu/HPSv2@697403c78157020a1ae59d23f111aa58ced35b0a"
KIND: Any = {"arch": "ViT-H-14", "size": 1_972_000_000, "license": "Apache-2.0"}
NAMED = {
    "hpsv2.1": ScorerFile("hpsv2.1", "HPS_v2.1_compressed.pt", SOURCE, **KIND),
    "hpsv2.0": ScorerFile("hpsv2.0", "HPS_v2_compressed.pt", SOURCE, **KIND),
}


class Hps(Packaged):
    """Mean over all pictures, and over the pictures of each prompt style."""

    class Config(BackendConfig):
        """Settings.

        Attributes:
            weights: tiny | hpsv2.1 | hpsv2.0 | a folder with an open_clip JSON and a checkpoint.
            antialias: False resizes as torchvision < 0.17 did, for numbers published with it.
            backend: native | package, the package hpsv2 in the environment `hpsv2`.
            patience: seconds after which a worker that says nothing counts as hung.
            python: the interpreter that has the package; "" is that of the environment.
            precision: float32 | bfloat16, of the network's products; bfloat16 has its own keys.
        """

        weights: Annotated[str, NEUTRAL, among(NAMED, "tiny")] = "tiny"
        antialias: bool = True

        @model_validator(mode="after")
        def _resized_natively(self) -> Hps.Config:
            if self.backend == "package" and not self.antialias:
                raise ValueError("antialias: false is of the native backend alone")
            return self

    streams = True
    info = MetricInfo(
        "HPS", higher_is_better=True, per_category=True, modality=frozenset({"image", "video"})
    )

    named, tiny, package = NAMED, "tiny-hps", "hpsv2"

    @property
    def _resize(self) -> ScorerResize:
        return "pad" if self.config.antialias else "pad-legacy"

    def label(self) -> str:
        """HPSv2.1, HPSv2.0, HPS (tiny) or HPS (custom)."""
        names = {"hpsv2.1": "HPSv2.1", "hpsv2.0": "HPSv2.0"}
        return self._choice.head(names.get(self.config.weights, self.info.label))

    def load(self, device: str = "cpu") -> None:
        """Read the scorer. Raises MissingWeights, BadInput."""
        source = self._choice.clip(self._resize)
        if not self.by_package:
            from distillbench.score.features import clip_extractor

            self._clip = clip_extractor(source, device)
            return
        if source.checkpoint.suffix == ".safetensors":
            raise BadInput(f"{source.checkpoint}: the package hpsv2 reads .pt files alone")
        self.find_package(device)

    def score(self, samples: Samples, reference: Samples | None = None) -> Scores:
        """100 <picture, prompt> per sample; of a video the mean over its frames."""
        from distillbench.score.frames import frames_of, per_video

        frames = frames_of(samples)
        cosine = self._by_package(frames) if self.by_package else self._natively(frames)
        protocol = {"weights": self._choice.kind, "scale": "100 cosine", "resize": self._resize,
                    **self.told()}  # fmt: skip
        values = (100 * per_video(torch.tensor(cosine, dtype=torch.float64), samples)).tolist()
        return mean_scores(samples, values, protocol, per_category=True)

    def _natively(self, samples: Samples) -> list[float]:
        cosine = (self._clip.images(samples) * self._clip.texts(samples.prompts)).sum(dim=-1)
        values: list[float] = cosine.tolist()
        return values

    def _by_package(self, samples: Samples) -> list[float]:
        source = self._choice.clip(self._resize)
        path = Path(source.arch)
        arch = arch_of(path) if path.is_file() else source.arch
        return self.package_scores(samples, {"arch": arch, "checkpoint": str(source.checkpoint)})
