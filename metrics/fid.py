"""FID (arXiv 1706.08500): Frechet distance between Gaussians fitted to features of two sets.

Here the other set is the reference samples (FID to the teacher). FID falls with n, roughly as
1/n, so values at different n, extractor or resize are never comparable; the teacher's own row at
another seed shows the floor at this n. The reference shares the noise of the samples, so a method
that keeps the teacher's map from noise to picture can fall below that floor (metrics/README.md).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from distillbench.api.fields import NEUTRAL
from distillbench.api.metric import Metric, MetricInfo, Samples, Scores
from distillbench.core.lazy import torch
from distillbench.errors import BadInput, NotSupported
from distillbench.files.hashes import file_sha256
from distillbench.files.places import Need
from distillbench.score.choice import Choice, checked
from distillbench.score.jackknife import leave_out, whole_set
from distillbench.score.weights import Published
from distillbench.world import weights as shipped

NAMED = {
    "inception-2015": Published(
        "inception-2015",
        "inception-2015-12-05.pt",
        "NVIDIA StyleGAN3 metrics (TorchScript)",
        size=95_600_000,
        license="NVIDIA Source Code License",
    )
}


class Fid(Metric):
    """Frechet distance to the reference samples."""

    class Config(BaseModel):
        """Settings.

        Attributes:
            weights: the extractor: tiny | inception-2015 | the folder of a net like the tiny one |
                PATH#sha256=DIGEST, a TorchScript file such as inception-2015: loading one runs its
                program, so the digest says which program is meant.
            allow_small_n: accept n <= the feature dimension, where the covariance is singular.
            blocks: of the jackknife behind the standard error; 0 gives none.
        """

        model_config = ConfigDict(frozen=True, extra="forbid")

        weights: Annotated[str, NEUTRAL] = "tiny"
        allow_small_n: bool = False
        blocks: int = Field(10, ge=0)

        @field_validator("weights")
        @classmethod
        def _known(cls, weights: str) -> str:
            path, pin = pinned(checked(weights, NAMED))
            if path not in {"tiny", *NAMED} and not pin and not Path(path).expanduser().is_dir():
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

    version = 2
    info = MetricInfo(
        "FID",
        higher_is_better=False,
        needs_reference=True,
        per_sample=False,
        caveat=(
            "biased upward at small n, roughly as 1/n (here n = {n}), the more the less noise a "
            "row shares with its reference"
        ),
    )

    @property
    def _choice(self) -> Choice:
        return Choice(pinned(self.config.weights)[0], "tiny-inception", NAMED)

    def label(self) -> str:
        """FID, FID (tiny) or FID (custom)."""
        return self._choice.head(self.info.label)

    def revision(self) -> str:
        """Identity of the extractor."""
        return self._choice.revision()

    def requirements(self, n: int, prompts: Sequence[str] = ()) -> tuple[Need, ...]:
        """The extractor, and more samples than features."""
        problem, fix = self._too_few(n, self._features_known())
        return (*self._choice.requirements(), Need("samples", f"of {self.name}", problem, fix))

    def _features_known(self) -> int:
        """Dimension of the features, 0 where only the loaded extractor tells."""
        path = shipped.folder("tiny-inception") if self.config.weights == "tiny" else None
        if path is not None:
            return int(json.loads((path / "config.json").read_text(encoding="utf-8"))["dim"])
        return 2048 if self.config.weights in NAMED else 0

    def load(self, device: str = "cpu") -> None:
        """Read the extractor. Raises MissingWeights, and BadInput for another file than pinned."""
        from distillbench.score.features import feature_net

        path, pin = self._choice.path(), pinned(self.config.weights)[1]
        if pin and (found := file_sha256(path)) != pin:
            raise BadInput(f"{path}: its sha256 is {found}, not the pinned {pin}; it is not run")
        self._net = feature_net(path, device)
        self._device = device

    def score(self, samples: Samples, reference: Samples | None = None) -> Scores:
        """The distance, with a jackknife error over prompts.

        That error is about the spread and not about the bias; where the two sets hardly differ it
        is up to 1.6 times too large, and never was found too small (docs/metrics.md).

        Raises:
            BadInput: n is below 2, or not above the feature dimension with `allow_small_n` off.
        """
        if reference is None:
            raise NotSupported("FID needs reference samples")
        one, two = (self._features(s) for s in (samples, reference))
        problem, fix = self._too_few(min(len(one), len(two)), self._net.dim)
        if problem:
            raise BadInput(problem, hint=fix)
        value = frechet(one, two)
        left_out = leave_out(self._without(one, two), len(one), self.config.blocks)
        more: Any = whole_set(left_out)
        return Scores({"": value}, **more, protocol=self._protocol(reference))

    def _too_few(self, n: int, dim: int) -> tuple[str, str]:
        """What is wrong with n samples and what to do; empty where nothing is."""
        if n < 2:
            return f"FID needs at least 2 samples for a covariance, not {n}", "raise sample.n"
        if n > dim or self.config.allow_small_n:
            return "", ""
        what = f"FID with {dim}-d features needs more than {dim} samples, not {n}"
        return what, "raise sample.n, or set allow_small_n if a biased number will do"

    def _features(self, samples: Samples) -> torch.Tensor:
        return self._net.features(samples).to(self._device, torch.float64)

    def _without(self, one: torch.Tensor, two: torch.Tensor) -> Callable[[torch.Tensor], float]:
        # A prompt leaves both sets at once where they share prompts: their features are paired.
        paired = len(one) == len(two)
        return lambda stay: frechet(one[stay], two[stay] if paired else two)

    def _protocol(self, reference: Samples) -> dict[str, Any]:
        prompts = "\n".join(reference.prompts).encode()
        return {
            "weights": self._choice.kind,
            "features": self._net.dim,
            "resize": self._net.resize,
            "reference_n": len(reference),
            "reference_prompts_sha256": hashlib.sha256(prompts).hexdigest(),
        }


def pinned(weights: str) -> tuple[str, str]:
    """A `weights` setting without its pin, and the digest that is pinned ("" for none)."""
    path, _, digest = weights.partition("#sha256=")
    return path, digest.lower()


def frechet(one: torch.Tensor, two: torch.Tensor) -> float:
    """|mu_1 - mu_2|^2 + Tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2)) of features (n, d) and (m, d), float64.

    Covariances divide by n - 1. Never negative.
    """
    centred = [x - x.mean(dim=0) for x in (one, two)]
    scaled = [x / (len(x) - 1) ** 0.5 for x in centred]
    shift = (one.mean(dim=0) - two.mean(dim=0)).square().sum()
    spread = sum(x.square().sum() for x in scaled)
    small = min(len(one), len(two)) <= one.shape[1]
    root = root_trace_few(*scaled) if small else root_trace(*scaled)
    return max(float(shift + spread - 2 * root), 0.0)


def root_trace(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Tr (A'A B'B)^(1/2) through the symmetric (A'A)^(1/2) B'B (A'A)^(1/2), for n > d.

    Symmetric eigenvalues stay real where the square root of the plain product does not.
    """
    values, vectors = torch.linalg.eigh(a.T @ a)
    half = vectors * values.clamp_min(0).sqrt() @ vectors.T
    product = half @ (b.T @ b) @ half
    trace: torch.Tensor = torch.linalg.eigvalsh((product + product.T) / 2).clamp_min(0).sqrt().sum()
    return trace


def root_trace_few(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The same trace as the nuclear norm of A B' (n x m), for n <= d."""
    trace: torch.Tensor = torch.linalg.svdvals(a @ b.T).sum()
    return trace
