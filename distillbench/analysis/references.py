"""What a row's distances are to: the reference samples behind a score, and whose noise they have.

A distance to one teacher says nothing of a distance to another, and one between samples of the same
noise nothing of one between samples of different noise: such values are never ranked together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from distillbench.analysis.rows import Row
from distillbench.plan.identity import content_key
from distillbench.plan.stage import Plan, Stage
from distillbench.specs.stages import SampledSpec, SampleSpec, ScoreSpec

__all__ = ["Against", "against"]

_CHANCE = ("seed", "batch_size")


@dataclass(frozen=True)
class Against:
    """The reference of one metric of one row.

    Attributes:
        key: digest of what the reference samples are of, whatever their seed and batch size.
        noise: whether they start from the noise of the row's samples.
        floor: whether they are of what the row itself is: its value is the least there can be.
        guidance_scale: at which the reference is sampled.
    """

    key: str
    noise: Literal["same", "other"]
    floor: bool
    guidance_scale: float

    @property
    def comparable(self) -> str:
        """Equal for two values that may be ranked, or compared, with each other."""
        return f"{self.key} {self.noise} noise"


def against(plan: Plan, row: Row, metric: str) -> Against | None:
    """The reference behind a row's scores; None for a metric that compares with nothing."""
    cell = row.first
    score, sample = plan.stages.get(cell.scores.get(metric, "")), plan.stages.get(cell.sample)
    reference = plan.stages.get((score.read(ScoreSpec).reference or "") if score else "")
    if reference is None or sample is None:
        return None
    theirs = reference.read(SampleSpec)
    ours = sample.read(SampledSpec)
    same = isinstance(ours, SampleSpec) and theirs.seed == ours.seed
    return Against(
        content_key(_made_of(reference)), "same" if same else "other",
        _made_of(reference) == _made_of(sample), theirs.sampler.guidance_scale,
    )  # fmt: skip


def _made_of(sample: Stage) -> dict[str, Any]:
    """A sample stage's spec without what only chance hangs on."""
    return {name: value for name, value in sample.spec.items() if name not in _CHANCE}
