"""FD of DINOv2 features (arXiv 2306.04675): FID with a network that follows people's judgement.

ViT-L/14, pictures resized to 224 x 224 (bicubic), the class token after the last norm.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from distillbench.api.fields import NEUTRAL
from distillbench.score.choice import among
from distillbench.score.precision import PrecisionConfig
from distillbench.score.real import RealPictures
from distillbench.score.weights import CHECKPOINTS, ScorerFile, only_file

from .fid import Fid

NAMED = {
    "dinov2-vit-l-14": ScorerFile(
        "dinov2-vit-l-14",
        "model.safetensors",
        "facebook/dinov2-large",
        size=1_220_000_000,
        license="Apache-2.0",
        beside=("config.json",),
    )
}


class FdDinov2(Fid):
    """Frechet distance of DINOv2 features to the reference samples, or to real pictures."""

    class Config(PrecisionConfig):
        """Settings.

        Attributes:
            weights: dinov2-vit-l-14 | a folder with config.json and a checkpoint of a hub DINOv2.
            reference: what samples are compared with: "" is the file's `reference`, else real
                pictures ({images: ...} or plain): a folder, or an .npz with `mu` and `sigma` of
                these features.
            blocks: of the jackknife behind the standard error; 0 gives none.
            allow_small_n: accept n <= the feature dimension, where the covariance is singular.
            precision: float32 | bfloat16, of the network's products; bfloat16 has its own keys.
        """

        weights: Annotated[str, NEUTRAL, among(NAMED)] = "dinov2-vit-l-14"
        reference: RealPictures = ""
        blocks: int = Field(10, ge=0)
        allow_small_n: bool = False

    version = 1
    named = NAMED
    info = replace(Fid.info, label="FD-DINOv2", format=".1f")

    def _network(self, path: Path, device: str) -> Any:
        from distillbench.score.towers import dino_net

        return dino_net(only_file(path, CHECKPOINTS) if path.is_dir() else path, device)

    def _features_known(self) -> int:
        return 1024 if self.config.weights in NAMED else 0
