"""What a metric must offer, and the records that samples and scores travel in."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import BaseModel

from distillbench.core.lazy import torch
from distillbench.files.places import Need

__all__ = ["Metric", "MetricInfo", "Samples", "Scores", "mean_scores"]


@dataclass(frozen=True)
class MetricInfo:
    """How a metric is shown and what it needs.

    Attributes:
        label: column head, plain text.
        higher_is_better: None for a descriptive number that is never ranked.
        format: Python format spec of one value.
        unit: what one unit is, in words; empty when dimensionless.
        modality: which samples it can score: "image", "video", "point".
        needs_reference: True when it compares with another sample set (FID to the teacher).
        per_category: True when it also reports one column per prompt category.
        per_sample: True when `Scores.per_sample` holds a value for every sample.
        caveat: what must be said of every such number, a sentence in which {n} stands for the
            samples of one set; "" for nothing.
    """

    label: str
    higher_is_better: bool | None
    format: str = ".2f"
    unit: str = ""
    modality: frozenset[str] = frozenset({"image"})
    needs_reference: bool = False
    per_category: bool = False
    per_sample: bool = True
    caveat: str = ""


@dataclass(frozen=True)
class Samples:
    """One sample set, in prompt order.

    Attributes:
        data: uint8 (n, H, W, 3) images, uint8 (n, frames, H, W, 3) videos, or float32 (n, d)
            points. In memory, unless the metric `streams`.
        prompts: n prompts.
        categories: n category names ("" where the prompt set has none).
        seed: the run seed its noise came from.
        key: the sample stage's content key.
    """

    data: torch.Tensor
    prompts: Sequence[str]
    categories: Sequence[str]
    seed: int
    key: str = ""

    def __len__(self) -> int:
        return len(self.prompts)


@dataclass(frozen=True)
class Scores:
    """What a metric says of a sample set.

    Attributes:
        aggregate: column -> value. The column "" is the metric's own; others are suffixes (a
            prompt category), shown as `<metric>_<column>`.
        per_sample: column -> n values, where the metric has them.
        stderr: column -> standard error of that aggregate, where it does not follow from
            `per_sample` and a sound estimate exists.
        blocks: column -> the value without one block of samples at a time, for values of whole
            sets; differences of two sets are then paired (`score.jackknife`).
        protocol: everything that must agree before two values may share a table column (n, weights,
            extractor, resize mode, prompt set).
    """

    aggregate: Mapping[str, float]
    per_sample: Mapping[str, Sequence[float]] = field(default_factory=dict)
    stderr: Mapping[str, float] = field(default_factory=dict)
    blocks: Mapping[str, Sequence[float]] = field(default_factory=dict)
    protocol: Mapping[str, Any] = field(default_factory=dict)


class Metric(ABC):
    """One score. Built without torch; `load` reads its weights.

    Attributes:
        Config: its parameters (weights, preprocessing, sizes).
        version: raise it whenever a change may alter numbers; it is part of the score's key.
        info: display and requirements.
        streams: True when it takes `Samples.data` in parts alone (`data[32:64]`, `data[[0, 5]]`,
            len, shape, dtype, iteration): a stored set then stays on disk. Otherwise it is read
            into memory whole.
    """

    Config: ClassVar[type[BaseModel]]
    version: ClassVar[int] = 1
    info: ClassVar[MetricInfo]
    streams: ClassVar[bool] = False
    name: str = ""

    def __init__(self, config: BaseModel) -> None:
        self.config: Any = config

    def label(self) -> str:
        """Column head; says so when the weights are not the published ones ("HPS (tiny)")."""
        return self.info.label

    def revision(self) -> str:
        """Identity of the weights it scores with; known without torch; "" for none."""
        return ""

    def problems(self) -> Sequence[str]:
        """What is wrong with what its settings name, one line each; looked at while planning.

        Without torch, and of what is on this disk alone: what is missing is a requirement.
        """
        return ()

    def misfit(self, height: int, width: int) -> str:
        """What is wrong with samples of that size in pixels; "" for nothing. Without torch."""
        return ""

    def requirements(self, n: int, prompts: Sequence[str] = ()) -> Sequence[Need]:
        """What scoring n samples takes (weights, packages, samples enough), met or not.

        Only what can be looked for at once and without torch: files, packages, never the network.

        Args:
            n: samples of the set, and of its reference.
            prompts: the set they go through in turn; empty where it is not on this disk.
        """
        return ()

    def load(self, device: str = "cpu") -> None:  # noqa: B027 (a metric without weights)
        """Read the weights onto `device`. Raises MissingWeights with the place they belong."""

    @abstractmethod
    def score(self, samples: Samples, reference: Samples | None = None) -> Scores:
        """Score `samples`, against `reference` where `info.needs_reference`."""


def mean_scores(
    samples: Samples,
    values: Sequence[float],
    protocol: Mapping[str, Any],
    *,
    per_category: bool = False,
) -> Scores:
    """Scores of a metric that is a mean over samples, and over each prompt category if asked."""
    columns = {"": list(values)}
    if per_category:
        for value, category in zip(values, samples.categories, strict=True):
            if category:
                columns.setdefault(category, []).append(value)
    return Scores(
        aggregate={name: math.fsum(column) / len(column) for name, column in columns.items()},
        per_sample={"": list(values)},
        protocol=protocol,
    )
