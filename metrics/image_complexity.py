"""Image complexity (IC9600: Feng et al., TPAMI 2023): how much there is in a picture, 0 to 1.

The score of ICNet, which was trained on what people say of pictures' complexity. Neither more nor
less is better: compare with the teacher's own row.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict

from distillbench.api.fields import NEUTRAL
from distillbench.api.metric import MetricInfo, Samples, Scores, mean_scores
from distillbench.errors import BadInput
from distillbench.score.choice import OneNetwork, among
from distillbench.score.complexity_file import mistaken
from distillbench.score.weights import CHECKPOINTS, ScorerFile, only_file

NAMED = {
    "ic9600": ScorerFile(
        "ic9600",
        "ck.pth",
        "the drive that the README of tinglyfeng/IC9600 links to",
        size=81_500_000,
        license="no licence stated",
    )
}


class ImageComplexity(OneNetwork):
    """Mean over all pictures; prompts are not looked at."""

    class Config(BaseModel):
        """Settings.

        Attributes:
            weights: ic9600 | a file like the published ck.pth, or the folder of one.
        """

        model_config = ConfigDict(frozen=True, extra="forbid")

        weights: Annotated[str, NEUTRAL, among(NAMED)] = "ic9600"

    streams = True
    info = MetricInfo("Complexity", higher_is_better=None, format=".4f")

    named = NAMED

    def problems(self) -> tuple[str, ...]:
        """Why the file is no checkpoint of ICNet, where there is one."""
        if any(need.problem for need in self._choice.requirements()):
            return ()
        what = mistaken(self._file)
        return (what,) if what else ()

    def load(self, device: str = "cpu") -> None:
        """Read the network. Raises MissingWeights, BadInput."""
        from distillbench.score.complexity import complexity_net

        if what := mistaken(self._file):
            raise BadInput(what)
        self._net = complexity_net(self._file, device)

    @property
    def _file(self) -> Path:
        path = self._choice.path()
        return only_file(path, CHECKPOINTS) if path.is_dir() else path

    def score(self, samples: Samples, reference: Samples | None = None) -> Scores:
        """ICNet's score of each picture."""
        protocol = {"weights": self._choice.kind, "resize": f"stretch-{self._net.side}-bilinear"}
        return mean_scores(samples, self._net.scores(samples), protocol)
