"""What metrics of whole sets share: a feature network, and what the features are compared with."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from distillbench.api.fields import NEUTRAL
from distillbench.api.metric import Metric, Samples, Scores
from distillbench.core.lazy import torch
from distillbench.errors import BadInput, NotSupported
from distillbench.files.hashes import file_sha256
from distillbench.files.places import Need
from distillbench.score.choice import Choice, one_of
from distillbench.score.real import (
    RealPictures,
    real_count,
    real_identity,
    real_need,
    real_place,
    real_problems,
)
from distillbench.score.weights import (
    INCEPTION_SIDE,
    TINY_SIDE,
    ScorerFile,
    tiny_misfit,
    too_small,
)
from distillbench.world import weights as shipped

__all__ = ["INCEPTION", "SetConfig", "SetMetric", "pinned"]

INCEPTION = {
    "inception-2015": ScorerFile(
        "inception-2015",
        "inception-2015-12-05.pt",
        "NVIDIA StyleGAN3 metrics (TorchScript)",
        size=95_600_000,
        license="NVIDIA Source Code License",
    )
}


class SetConfig(BaseModel):
    """Settings.

    Attributes:
        weights: the extractor: tiny | inception-2015 | the folder of a net like the tiny one |
            PATH#sha256=DIGEST, a TorchScript file such as inception-2015: loading one runs its
            program, so the digest says which program is meant.
        reference: what samples are compared with: "" is the file's `reference`, else real pictures
            ({images: ...} or plain): a folder, the .npz of clean-fid, or the name of either under
            `<data root>/images`.
        blocks: of the jackknife behind the standard error; 0 gives none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: Annotated[str, NEUTRAL] = "tiny"
    reference: RealPictures = ""
    blocks: int = Field(10, ge=0)

    @field_validator("weights")
    @classmethod
    def _known(cls, weights: str) -> str:
        path, pin = pinned(one_of(weights, ["tiny", *INCEPTION]))
        if path not in {"tiny", *INCEPTION} and not pin and not Path(path).expanduser().is_dir():
            raise ValueError(
                f"{path}: a TorchScript file runs its own program; pin the one you mean as "
                f"{path}#sha256=DIGEST (sha256sum prints it)"
            )
        return weights

    @field_validator("blocks")
    @classmethod
    def _enough(cls, blocks: int) -> int:
        if blocks == 1:
            raise ValueError("a jackknife needs at least 2 blocks; 0 turns it off")
        return blocks


class SetMetric(Metric):
    """Compares the features of two sets.

    Attributes:
        named: published networks by name; tiny: folder of the shipped one.
        rule: how pictures are fitted to the network: "resize" or "patch".
        least: samples without which there is no value.
        moments: whether a mean and a covariance of real pictures will do.
    """

    named: ClassVar[Mapping[str, ScorerFile]] = INCEPTION
    tiny: ClassVar[str] = "tiny-inception"
    rule: ClassVar[str] = "resize"
    least: ClassVar[int] = 2
    moments: ClassVar[bool] = False
    streams = True
    Config = SetConfig

    def __init__(self, config: BaseModel) -> None:
        super().__init__(config)
        if self._real:
            # Real pictures take the place of the reference samples.
            vars(self)["info"] = replace(self.info, needs_reference=False)

    @property
    def _real(self) -> str:
        named: str = self.config.reference
        return named

    @property
    def _choice(self) -> Choice:
        return Choice(pinned(self.config.weights)[0], self.tiny, self.named)

    def label(self) -> str:
        """The head, with (tiny) or (custom) for networks that are not the published ones."""
        return self._choice.head(self.info.label)

    def revision(self) -> str:
        """Identity of the extractor, and of the real pictures."""
        real = f"+real:{real_identity(self._real)}" if self._real else ""
        return f"{self._choice.revision()}{real}"

    def problems(self) -> list[str]:
        """What is wrong with the real pictures, too few of them among it."""
        if not self._real:
            return []
        dim = self._features_known()
        if found := real_problems(self._real, dim, moments=self.moments, misfit=self.misfit):
            return found
        count = real_count(self._real)
        what = self._too_few(count, dim)[0] if count else ""
        return [f"{real_place(self._real)} holds {count} pictures; {what}"] if what else []

    def requirements(self, n: int, prompts: Sequence[str] = ()) -> tuple[Need, ...]:
        """The extractor, the real pictures, and samples enough."""
        problem, fix = self._too_few(n, self._features_known())
        real = (real_need(self._real),) if self._real else ()
        samples = Need("samples", f"of {self.name}", problem, fix)
        return (*self._choice.requirements(), *real, samples)

    def _features_known(self) -> int:
        """Dimension of the features, 0 where only the loaded extractor tells."""
        path = shipped.folder(self.tiny) if self.config.weights == "tiny" else None
        if path is not None:
            return int(json.loads((path / "config.json").read_text(encoding="utf-8"))["dim"])
        return 2048 if self.config.weights in INCEPTION else 0

    def misfit(self, height: int, width: int) -> str:
        """A tiny extractor takes samples of its own size alone, patches none that are smaller."""
        if self.named is INCEPTION and self.rule == "resize" and self._choice.like_tiny:
            return tiny_misfit(height, width)
        if self.rule != "patch":
            return ""
        least = TINY_SIDE // 2 if self._choice.like_tiny else INCEPTION_SIDE
        return too_small(f"{self.info.label}, of patches,", least, height, width)

    def _too_few(self, n: int, dim: int) -> tuple[str, str]:
        """What is wrong with n samples and what to do; empty where nothing is."""
        what = f"{self.info.label} needs at least {self.least} samples, not {n}"
        return ("", "") if n >= self.least else (what, "raise sample.n")

    def load(self, device: str = "cpu") -> None:
        """Read the extractor. Raises MissingWeights, and BadInput for another file than pinned."""
        path, pin = self._choice.path(), pinned(self.config.weights)[1]
        if pin and (found := file_sha256(path)) != pin:
            raise BadInput(f"{path}: its sha256 is {found}, not the pinned {pin}; it is not run")
        self._net = self._network(path, device)
        self._device = device

    def _network(self, path: Path, device: str) -> Any:
        from distillbench.score.features import feature_net

        return feature_net(path, device, self.rule)

    def score(self, samples: Samples, reference: Samples | None = None) -> Scores:
        """The metric's value of the two sets.

        Raises:
            BadInput: too few samples, or real pictures that cannot be used.
            NotSupported: there is nothing to compare with.
        """
        if reference is None and not self._real:
            raise NotSupported(f"{self.info.label} needs reference samples")
        one = self._features(samples)
        two = self._features(reference) if reference is not None else self._other()
        others = len(two) if hasattr(two, "__len__") else 0
        for count in (len(one), others or len(one)):
            if (found := self._too_few(count, self._net.dim))[0]:
                raise BadInput(found[0], hint=found[1])
        scores = self.compare(one, two)
        told = self._protocol(reference, others)
        return replace(scores, protocol={**told, **scores.protocol})

    @abstractmethod
    def compare(self, one: torch.Tensor, two: Any) -> Scores:
        """The scores of features (n, d) and (m, d), float64."""

    def _other(self) -> Any:
        """Features of the real pictures."""
        from distillbench.score.real_features import real_features

        return real_features(real_place(self._real), self._net).to(self._device)

    def _features(self, samples: Samples) -> torch.Tensor:
        found: torch.Tensor = self._net.features(samples).to(self._device, torch.float64)
        return found

    def _protocol(self, reference: Samples | None, others: int) -> dict[str, Any]:
        told = {
            "weights": self._choice.kind,
            "features": self._net.dim,
            "resize": self._net.resize,
        }
        if reference is None:
            count = {"reference_n": others} if others else {}
            return {**told, "reference": "real pictures", **count}
        prompts = "\n".join(reference.prompts).encode()
        return {
            **told,
            "reference_n": len(reference),
            "reference_prompts_sha256": hashlib.sha256(prompts).hexdigest(),
        }


def pinned(weights: str) -> tuple[str, str]:
    """A `weights` setting without its pin, and the digest that is pinned ("" for none)."""
    path, _, digest = weights.partition("#sha256=")
    return path, digest.lower()
