"""Every metric of the project passes the suite that is shipped for authors of metrics."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from distillbench.api.metric import Samples
from distillbench.api.registry import METRICS
from distillbench.backbones._gmm import exact_samples
from distillbench.testing.metric import MetricContract


class TestHps(MetricContract):
    name = "hps"

    @pytest.fixture(autouse=True)
    def _weights(self, scorers: Path) -> None:
        self.params = {"weights": str(scorers / "hps")}


class TestClip(MetricContract):
    name = "clip"

    @pytest.fixture(autouse=True)
    def _weights(self, scorers: Path) -> None:
        self.params = {"weights": str(scorers / "clip")}


class TestAes(MetricContract):
    name = "aes"

    @pytest.fixture(autouse=True)
    def _weights(self, scorers: Path) -> None:
        self.params = {"weights": str(scorers / "head.pth"), "clip": str(scorers / "clip")}


class TestFid(MetricContract):
    name = "fid"
    n = 40

    @pytest.fixture(autouse=True)
    def _weights(self, scorers: Path) -> None:
        self.params = {"weights": str(scorers / "features")}


class PointContract(MetricContract):
    """Points of the mixture world: half exact, half anywhere, two conditions."""

    n = 60

    def samples(self, seed: int = 0) -> Samples:
        prompts = [f"condition {i % 2}" for i in range(self.n)]
        rng = torch.Generator().manual_seed(seed)
        data = exact_samples(prompts, seed)
        data[::4] += torch.randn(len(data[::4]), 2, generator=rng)
        return Samples(data, prompts, [""] * self.n, seed)


class TestSw(PointContract):
    name = "sw"


class TestMmd(PointContract):
    name = "mmd"


class TestCoverage(PointContract):
    name = "coverage"


def test_every_registered_metric_is_tested_here() -> None:
    suites = [c for name, c in globals().items() if name.startswith("Test")]
    tested = {suite.name for suite in suites}
    assert tested == set(METRICS.names())
