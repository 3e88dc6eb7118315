"""AeS: LAION's improved aesthetic predictor v2, a linear head on unit CLIP image features.

Five linear layers with dropout between them and no activation, so one affine map at evaluation.
The published head needs OpenAI's ViT-L/14 with QuickGELU and normalised features; either mistake
moves the score without an error (5.05 against 4.44, and 20 to 30).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from distillbench.api.fields import NEUTRAL
from distillbench.api.metric import Metric, MetricInfo, Samples, Scores, mean_scores
from distillbench.core.lazy import F, torch
from distillbench.errors import BadInput
from distillbench.files.places import Need
from distillbench.score.choice import OPENAI, Choice, among
from distillbench.score.precision import PrecisionConfig
from distillbench.score.weights import ScorerFile, only_file

LAYERS = (0, 2, 4, 6, 7)
NAMED = {
    "laion-v2": ScorerFile(
        "laion-v2",
        "sac+logos+ava1-l14-linearMSE.pth",
        "christophschuhmann/improved-aesthetic-predictor",
        "21dd590f3ccdc646f0d53120778b296013b096a035a2718c9cb0d511bff0f1e0",
        size=3_700_000,
        license="Apache-2.0",
    )
}
# The CLIP each head was trained on.
TRUNK = {"tiny": "tiny", "laion-v2": "openai-ViT-L-14"}


class Aes(Metric):
    """Mean aesthetic score over all pictures, about 1 to 10; prompts are not looked at."""

    class Config(PrecisionConfig):
        """Settings.

        Attributes:
            weights: the head: tiny | laion-v2 | the path of a file (layers.{0,2,4,6,7}).
            clip: its CLIP: tiny (tiny-hps) | openai-ViT-L-14 | a folder; "" its own
            precision: float32 | bfloat16, of the network's products; bfloat16 has its own keys.
        """

        weights: Annotated[str, NEUTRAL, among(NAMED, "tiny")] = "tiny"
        clip: Annotated[str, NEUTRAL, among(OPENAI, "", "tiny")] = ""

    streams = True
    info = MetricInfo("AeS", higher_is_better=True, modality=frozenset({"image", "video"}))

    @property
    def _head(self) -> Choice:
        return Choice(self.config.weights, "tiny-aes", NAMED)

    @property
    def _trunk(self) -> Choice:
        default = TRUNK.get(self.config.weights, "openai-ViT-L-14")
        return Choice(self.config.clip or default, "tiny-hps", OPENAI)

    def label(self) -> str:
        """AeS, AeS (tiny) or AeS (custom)."""
        head = self._head.head(self.info.label)
        return head if head != self.info.label else self._trunk.head(self.info.label)

    def revision(self) -> str:
        """Identity of the head and of the CLIP below it."""
        return f"{self._head.revision()}+{self._trunk.revision()}"

    def requirements(self, n: int, prompts: Sequence[str] = ()) -> tuple[Need, ...]:
        """The head and its CLIP."""
        return (*self._head.requirements(), *self._trunk.requirements())

    def load(self, device: str = "cpu") -> None:
        """Read the head and its CLIP. Raises MissingWeights, BadInput."""
        from distillbench.score.features import clip_extractor

        self._clip = clip_extractor(self._trunk.clip("crop"), device)
        self._layers = read_head(self._head.path())

    def score(self, samples: Samples, reference: Samples | None = None) -> Scores:
        """The head's value of each picture; of a video the mean over its frames."""
        from distillbench.score.frames import frames_of, per_video

        values = aesthetic(self._clip.images(frames_of(samples)), self._layers)
        values = per_video(values, samples)
        protocol = {
            "weights": self._head.kind,
            "clip": self._trunk.kind,
            "resize": "crop",
        }
        return mean_scores(samples, values.tolist(), protocol)


def read_head(path: Path) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(weight, bias) of the five layers. Raises BadInput when the file holds anything else."""
    from distillbench.score.features import read_state

    file = only_file(path, (".safetensors", ".pth", ".pt")) if path.is_dir() else path
    state = read_state(file)
    names = {f"layers.{i}.{part}" for i in LAYERS for part in ("weight", "bias")}
    if set(state) != names:
        odd = ", ".join(sorted(set(state) ^ names)[:4])
        raise BadInput(f"{file} is no aesthetic head: it differs in {odd}")
    return [
        (state[f"layers.{i}.weight"].float(), state[f"layers.{i}.bias"].float()) for i in LAYERS
    ]


def aesthetic(
    features: torch.Tensor, layers: list[tuple[torch.Tensor, torch.Tensor]]
) -> torch.Tensor:
    """(n,) scores of unit features (n, d). Raises BadInput when they are not of unit length."""
    norms = features.norm(dim=-1)
    if not torch.allclose(norms, torch.ones_like(norms), atol=1e-3):
        raise BadInput("the aesthetic head takes features of unit length; normalise them first")
    for weight, bias in layers:
        features = F.linear(features, weight, bias)
    return features.squeeze(-1)
