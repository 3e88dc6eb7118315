"""HPSv3 (arXiv 2508.03789): the preference that a tuned Qwen2-VL has for a picture of a prompt.

Every picture is resized to about 448 x 448 pixels, its aspect ratio kept to whole patches of 28;
the network, of 8 billion weights, reads it with the question of the published package and the
prompt, and is read at one token. Published leaderboards lie at about 3 to 11.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from distillbench.api.fields import NEUTRAL
from distillbench.api.metric import MetricInfo, Samples, Scores, mean_scores
from distillbench.errors import BadInput
from distillbench.files.places import Need
from distillbench.score.choice import OneNetwork, among
from distillbench.score.precision import PrecisionConfig
from distillbench.score.question import QUESTION, digest, question, reserved
from distillbench.score.weights import CHECKPOINTS, ScorerFile, only_file

NAMED = {
    "hpsv3": ScorerFile(
        "hpsv3",
        "HPSv3.safetensors",
        "MizzenAI/HPSv3 (config.json and tokenizer files: of Qwen/Qwen2-VL-7B-Instruct, "
        f"{QUESTION}: of the package hpsv3 1.0.0, in hpsv3/dataset)",
        size=16_600_000_000,
        license="MIT",
        beside=("config.json", "tokenizer.json", "tokenizer_config.json", QUESTION),
    )
}
ASKED = "f6ee57479d4e9eee76b49c00dc962e1e696a5a2b3cc32cebd9b1fa76fe27502c"
WIDEST = 200  # long side over short side, from which Qwen2-VL's resizing refuses a picture


class HPSv3(OneNetwork):
    """Mean over all pictures, and over the pictures of each prompt category."""

    class Config(PrecisionConfig):
        """Settings.

        Attributes:
            weights: hpsv3 | a folder with a checkpoint of that form and the files beside it.
            precision: float32 | bfloat16, what the network is held in; bfloat16, which the package
                computes in, takes half the memory (17 GB) and has its own keys.
        """

        weights: Annotated[str, NEUTRAL, among(NAMED)] = "hpsv3"

    streams = True
    info = MetricInfo("HPSv3", higher_is_better=True, format=".3f", per_category=True)

    named = NAMED

    def revision(self) -> str:
        """Identity of the network's weights, and of a question of one's own."""
        own = super().revision()
        return own if self._published else f"{own}+{digest(question(self._folder))[:16]}"

    def misfit(self, height: int, width: int) -> str:
        """What is wrong with samples of that size."""
        if max(height, width) <= WIDEST * min(height, width):
            return ""
        return (
            f"HPSv3 takes samples of at most {WIDEST} times their short side, not {width}x{height}"
        )

    def requirements(self, n: int, prompts: Sequence[str] = ()) -> tuple[Need, ...]:
        """The network, and prompts without words of its own."""
        problem = reserved(prompts)
        fix = "take it out of the prompt"
        words = (Need("prompts", "without HPSv3's words", problem, fix),) if problem else ()
        return (*super().requirements(n, prompts), *words)

    def load(self, device: str = "cpu") -> None:
        """Read the network. Raises MissingWeights, BadInput."""
        from distillbench.score.judge import judge

        checkpoint = self._checkpoint
        text = question(checkpoint.parent)
        found = digest(text)
        if self._published and found != ASKED:
            raise BadInput(
                f"{checkpoint.parent / QUESTION} asks another question (sha256 {found}) than that "
                f"of hpsv3 1.0.0 ({ASKED})",
                hint="put that version's file there, or name the folder as weights of your own",
            )
        self._judge = judge(checkpoint, text, device, self.config.precision)

    def score(self, samples: Samples, reference: Samples | None = None) -> Scores:
        """The mean of the preference's law per sample."""
        protocol = {"weights": self._choice.kind, "resize": "448-by-area",
                    "question": digest(self._judge.text)[:16]}  # fmt: skip
        return mean_scores(samples, self._judge.rewards(samples), protocol, per_category=True)

    @property
    def _published(self) -> bool:
        return self._choice.kind in NAMED

    @property
    def _checkpoint(self) -> Path:
        path = self._choice.path()
        return only_file(path, CHECKPOINTS) if path.is_dir() else path

    @property
    def _folder(self) -> Path:
        return self._checkpoint.parent
