"""What a scorer's `weights` setting means: shipped tiny ones, a published name, or a path.

Also the catalogue of OpenAI's CLIP files, which several scorers build on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import AfterValidator

from distillbench.api.metric import Metric
from distillbench.files.marks import did_you_mean
from distillbench.files.places import Need
from distillbench.score.weights import ClipSource, ScorerFile, ScorerResize, clip_folder, identity
from distillbench.world import weights as shipped

__all__ = ["OPENAI", "Choice", "OneNetwork", "among", "one_of"]

OPENAI = {
    weights.name: weights
    for weights in (
        ScorerFile(
            "openai-ViT-L-14",
            "ViT-L-14.pt",
            "openai/CLIP",
            "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
            "ViT-L-14",
            quickgelu=True,
            size=890_000_000,
            license="MIT",
        ),
        ScorerFile(
            "openai-ViT-L-14-336",
            "ViT-L-14-336px.pt",
            "openai/CLIP",
            "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02",
            "ViT-L-14-336",
            quickgelu=True,
            size=891_000_000,
            license="MIT",
        ),
        ScorerFile(
            "openai-ViT-B-32",
            "ViT-B-32.pt",
            "openai/CLIP",
            "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
            "ViT-B-32",
            quickgelu=True,
            size=338_000_000,
            license="MIT",
        ),
    )
}


def among(named: Mapping[str, ScorerFile], *words: str) -> AfterValidator:
    """Marks a setting as one of `words`, a name out of `named`, or a path with a slash in it."""
    return AfterValidator(lambda weights: one_of(weights, [*words, *named]))


def one_of(weights: str, words: Sequence[str]) -> str:
    """`weights` itself. Raises ValueError when it is neither one of `words` nor a path."""
    if weights in words or _is_path(weights):
        return weights
    known = f"{', '.join(filter(None, words))}, or a path with a slash in it"
    raise ValueError(f"unknown weights {weights!r}: {known}.{did_you_mean(weights, words)}")


def _is_path(weights: str) -> bool:
    return "/" in weights or "\\" in weights


@dataclass(frozen=True)
class Choice:
    """One resolved `weights` setting.

    Attributes:
        weights: "tiny", a name out of `named`, or a path.
        tiny: folder name of the shipped weights; "" where there are none.
        named: published checkpoints by name.
    """

    weights: str
    tiny: str
    named: Mapping[str, ScorerFile]

    def revision(self) -> str:
        """Identity for content keys. Raises MissingWeights for a path where nothing is."""
        if self.weights in self.named:
            return self.named[self.weights].revision
        if self.weights == "tiny":
            return f"tiny:{shipped.revision(self.tiny)}"
        return f"custom:{identity(self.path())}"

    def requirements(self) -> tuple[Need, ...]:
        """The weights as something a run needs; the shipped ones are no need."""
        if self.weights in self.named:
            return (self.named[self.weights].need(),)
        if self.weights == "tiny":
            return ()
        path = self.path()
        there = path.is_file() or path.is_dir()
        problem, fix = ("", "") if there else ("nothing is there", "name a file or a folder")
        return (Need("weights", str(path), problem, fix),)

    @property
    def kind(self) -> str:
        """The published name, "tiny", or "custom" for a path."""
        return self.weights if self.weights in {"tiny", *self.named} else "custom"

    @property
    def like_tiny(self) -> bool:
        """Whether it is the shipped network, or a folder of its form."""
        return self.weights == "tiny" or Path(self.weights).expanduser().is_dir()

    def head(self, label: str) -> str:
        """`label`, marked unless the weights are the published ones."""
        return label if self.weights in self.named else f"{label} ({self.kind})"

    def path(self) -> Path:
        """The file or folder. Raises MissingWeights."""
        if self.weights in self.named:
            return self.named[self.weights].path()
        if self.weights == "tiny":
            return shipped.folder(self.tiny)
        return Path(self.weights).expanduser()

    def clip(self, resize: ScorerResize) -> ClipSource:
        """The CLIP it names. Raises MissingWeights."""
        if self.weights in self.named:
            return self.named[self.weights].clip(resize)
        return clip_folder(self.path(), resize)


class OneNetwork(Metric):
    """A metric with one network, which its setting `weights` chooses.

    Attributes:
        named: published name -> checkpoint.
        tiny: the shipped network that `weights: tiny` means, "" for none.
    """

    named: ClassVar[Mapping[str, ScorerFile]]
    tiny: ClassVar[str] = ""

    @property
    def _choice(self) -> Choice:
        return Choice(self.config.weights, self.tiny, self.named)

    def label(self) -> str:
        """The column's name, with (tiny) or (custom) behind it where the network is such."""
        return self._choice.head(self.info.label)

    def revision(self) -> str:
        """Identity of the network's weights."""
        return self._choice.revision()

    def requirements(self, n: int, prompts: Sequence[str] = ()) -> tuple[Need, ...]:
        """The network."""
        return self._choice.requirements()
