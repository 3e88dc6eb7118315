"""The suite every metric must pass; an author of a metric subclasses it in a test file.

    class TestSharpness(MetricContract):
        name = "sharpness"

Set `params` for settings, `n` when the metric needs more samples, and override `samples` when it
needs special ones (conditions of its own world, say).
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch

from distillbench.api.metric import Metric, Samples, Scores
from distillbench.api.registry import build_metric
from distillbench.errors import DistillbenchError, NotSupported
from distillbench.score.evaluate import evaluate, protocol
from distillbench.store.samples import SampleWriter, open_samples

__all__ = ["MetricContract", "take"]

SHAPES = {"image": (32, 32, 3), "video": (4, 32, 32, 3), "point": (2,)}


def take(samples: Samples, order: Sequence[int]) -> Samples:
    """The samples at `order`, as a set without a key (nothing may be cached for it)."""
    return dataclasses.replace(
        samples,
        data=samples.data[list(order)],
        prompts=[samples.prompts[i] for i in order],
        categories=[samples.categories[i] for i in order],
        key="",
    )


class MetricContract:
    """Tests of one metric.

    Attributes:
        name: registered name.
        params: its settings.
        n: samples in a set.
        modality: of the samples; "" is the first one that the metric scores.
        tolerance: relative, for values that must agree whatever the batch.
    """

    name: ClassVar[str]
    params: Mapping[str, Any] = {}
    n: int = 12
    modality: str = ""
    tolerance: float = 1e-4

    # ---- what a subclass may override -------------------------------------------------------

    def build(self) -> Metric:
        """A fresh, unloaded metric."""
        return build_metric(self.name, dict(self.params))

    def samples(self, seed: int = 0) -> Samples:
        """Random samples of the metric's modality in two categories."""
        modality = self.modality or min(self.build().info.modality)
        rng = torch.Generator().manual_seed(seed)
        shape = (self.n, *SHAPES[modality])
        if modality == "point":
            data = torch.randn(shape, generator=rng)
        else:
            data = torch.randint(0, 256, shape, generator=rng).to(torch.uint8)
        prompts = [f"a picture of thing {i}" for i in range(self.n)]
        return Samples(data, prompts, ["even", "odd"] * (self.n // 2), seed)

    def reference(self) -> Samples | None:
        """The set it is compared with, where it compares."""
        return self.samples(seed=99) if self.build().info.needs_reference else None

    def score(self, samples: Samples) -> Scores:
        """Score with a fresh metric; `evaluate` also runs every check of the score stage."""
        return evaluate(self.build(), samples, self.reference())

    # ---- the contract -----------------------------------------------------------------------

    def test_info_says_how_to_show_it(self) -> None:
        metric = self.build()
        assert metric.info.label
        assert metric.label()
        assert metric.info.modality
        assert format(1.25, metric.info.format)
        assert metric.version >= 1

    def test_config_survives_json(self) -> None:
        metric = self.build()
        dumped = json.loads(json.dumps(metric.config.model_dump(mode="json")))
        assert build_metric(self.name, dumped).config == metric.config

    def test_identity_is_the_same_each_time(self) -> None:
        assert self.build().revision() == self.build().revision()

    def test_what_it_needs_is_met_where_it_scores(self) -> None:
        samples = self.samples()
        needs = self.build().requirements(len(samples), list(samples.prompts))
        assert [need.line for need in needs if need.problem] == []

    def test_values_are_complete_and_finite(self) -> None:
        scores = self.score(self.samples())
        assert all(math.isfinite(v) for v in scores.aggregate.values())

    def test_same_samples_same_values(self) -> None:
        one, two = self.score(self.samples()), self.score(self.samples())
        assert one.aggregate == two.aggregate
        assert one.per_sample == two.per_sample

    def test_samples_are_left_as_they_were(self) -> None:
        samples = self.samples()
        before = samples.data.clone()
        self.score(samples)
        assert torch.equal(samples.data, before)

    def test_samples_on_disk_score_as_those_in_memory(self, tmp_path: Path) -> None:
        samples, whole = self.samples(), SampleWriter(tmp_path)
        for start in range(0, len(samples), 5):
            whole.add(samples.data[start : start + 5])
        whole.close(samples.prompts, samples.categories, samples.seed)
        kept = dataclasses.replace(open_samples(tmp_path), key="")
        one, two = self.score(dataclasses.replace(samples, key="")), self.score(kept)
        assert dataclasses.asdict(one) == dataclasses.asdict(two)

    def test_order_of_samples_is_irrelevant(self) -> None:
        samples = self.samples()
        order = torch.randperm(self.n, generator=torch.Generator().manual_seed(7)).tolist()
        one, two = self.score(samples), self.score(take(samples, order))
        for column, value in one.aggregate.items():
            assert math.isclose(value, two.aggregate[column], rel_tol=self.tolerance, abs_tol=1e-6)
        for column, values in one.per_sample.items():
            moved = [values[i] for i in order]
            assert _close(moved, two.per_sample[column], self.tolerance)

    def test_a_sample_is_scored_alone(self) -> None:
        samples = self.samples()
        whole = self.score(samples).per_sample
        if whole:
            few = self.score(take(samples, range(3))).per_sample
            for column, values in few.items():
                assert _close(values, whole[column][:3], self.tolerance)

    def test_categories_average_their_own_samples(self) -> None:
        metric, samples = self.build(), self.samples()
        if metric.info.per_category:
            scores = self.score(samples)
            for category in set(samples.categories):
                named = zip(scores.per_sample[""], samples.categories, strict=True)
                own = [v for v, c in named if c == category]
                assert math.isclose(scores.aggregate[category], math.fsum(own) / len(own))

    def test_protocol_is_json(self) -> None:
        samples = self.samples()
        written = protocol(self.build(), samples, self.score(samples))
        assert json.loads(json.dumps(written)) == written, (
            f"what JSON holds comes back as it was (lists, no tuples): {written}"
        )

    def test_foreign_samples_are_refused(self) -> None:
        metric = self.build()
        for modality in set(SHAPES) - metric.info.modality:
            data = torch.zeros(2, *SHAPES[modality])
            foreign = Samples(data, ["a", "b"], ["", ""], 0)
            given = foreign if metric.info.needs_reference else None
            _refused(metric, foreign, given)

    def test_odd_input_has_finite_values_or_a_line_that_refuses_it(self) -> None:
        given = self.samples()
        odd_prompts = ["", "x " * 5000, "\u5c71\u306e\u4e0a\u306e\u732b", "e\u0301\n\t\U0001f600"]
        prompts = [odd_prompts[i % len(odd_prompts)] for i in range(len(given))]
        for sides in ((1, 1), (1, 40), (40, 3)):
            data = given.data
            if data.ndim > 2:
                shape = (*data.shape[:-3], *sides, 3)
                data = torch.arange(math.prod(shape)).reshape(shape).remainder(256).to(torch.uint8)
            samples = dataclasses.replace(given, data=data, prompts=prompts, key="")
            needed = self.build().info.needs_reference
            values, refusal = {}, ""
            try:
                values = dict(
                    evaluate(self.build(), samples, samples if needed else None).aggregate
                )
            except DistillbenchError as error:
                refusal = error.line
            assert values or refusal
            assert len(refusal.splitlines()) <= 1
            assert all(math.isfinite(v) for v in values.values())

    def test_reference_is_asked_for(self) -> None:
        metric, samples = self.build(), self.samples()
        _refused(metric, samples, None if metric.info.needs_reference else samples)


def _close(one: Sequence[float], two: Sequence[float], tolerance: float) -> bool:
    pairs = zip(one, two, strict=True)
    return all(math.isclose(a, b, rel_tol=tolerance, abs_tol=1e-5) for a, b in pairs)


def _refused(metric: Metric, samples: Samples, reference: Samples | None) -> None:
    try:
        evaluate(metric, samples, reference)
    except NotSupported:
        return
    raise AssertionError(f"{metric.name} scored samples that it must refuse")
