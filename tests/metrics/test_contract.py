"""Every metric of the project passes the suite that is shipped for authors of metrics."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from distillbench.api.metric import Samples, Scores
from distillbench.api.registry import METRICS
from distillbench.backbones._gmm import exact_samples
from distillbench.score.complexity import ComplexityNet
from distillbench.score.evaluate import evaluate
from distillbench.testing.metric import MetricContract, take


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


class TestClipOfVideos(TestClip):
    modality = "video"


class TestAesOfVideos(TestAes):
    modality = "video"


class FeatureContract(MetricContract):
    """Compares sets by a random feature net."""

    n = 40

    @pytest.fixture(autouse=True)
    def _weights(self, scorers: Path) -> None:
        self.params = {"weights": str(scorers / "features")}


class TestPatchFid(FeatureContract):
    name = "patch_fid"


class TestKid(FeatureContract):
    name = "kid"


class TestPrecisionRecall(FeatureContract):
    name = "precision_recall"


class TestLpips(FeatureContract):
    name = "lpips"

    def score(self, samples: Samples) -> Scores:
        """Against the reference samples of the same prompts: pairs move together."""
        reference = self.reference()
        assert reference is not None
        places = [list(reference.prompts).index(prompt) for prompt in samples.prompts]
        return evaluate(self.build(), samples, take(reference, places))


class SeveralContract(FeatureContract):
    """Several pictures of a prompt."""

    def samples(self, seed: int = 0) -> Samples:
        given = super().samples(seed)
        return dataclasses.replace(given, prompts=[f"thing {i % 10}" for i in range(self.n)])


class TestDiversity(SeveralContract):
    name = "diversity"


class TestVendi(SeveralContract):
    name = "vendi"

    @pytest.fixture(autouse=True)
    def _weights(self, scorers: Path) -> None:
        self.params = {"weights": str(scorers / "clip")}


class TestCmmd(FeatureContract):
    name = "cmmd"

    @pytest.fixture(autouse=True)
    def _weights(self, scorers: Path) -> None:
        self.params = {"weights": str(scorers / "clip")}


class TestFdDinov2(FeatureContract):
    name = "fd_dinov2"

    @pytest.fixture(autouse=True)
    def _weights(self, hub: Path) -> None:
        self.params = {"weights": str(hub / "dino")}


class TestPickScore(MetricContract):
    name = "pick_score"

    @pytest.fixture(autouse=True)
    def _weights(self, hub: Path) -> None:
        self.params = {"weights": str(hub / "pick")}


class TestImageReward(MetricContract):
    name = "image_reward"

    @pytest.fixture(autouse=True)
    def _weights(self, hub: Path) -> None:
        self.params = {"weights": str(hub / "reward")}


class TestHPSv3(MetricContract):
    name = "hpsv3"

    @pytest.fixture(autouse=True)
    def _weights(self, hub: Path) -> None:
        self.params = {"weights": str(hub / "judge")}


class TestImageComplexity(MetricContract):
    name = "image_complexity"

    @pytest.fixture(autouse=True)
    def _weights(self, complexity: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.params = {"weights": str(complexity)}
        monkeypatch.setattr(ComplexityNet, "side", 64)  # an eighth of the paper's, for speed


class TestTemporalFlickering(MetricContract):
    name = "temporal_flickering"


class TestVbench(MetricContract):
    name = "vbench"
    n = 10

    @pytest.fixture(autouse=True)
    def _worker(self, vbench_data: str) -> None:
        self.params = {"python": vbench_data, "dimensions": "quality"}

    def samples(self, seed: int = 0) -> Samples:
        given = super().samples(seed)
        return dataclasses.replace(given, prompts=["a cat", "a dog"] * (self.n // 2))


class TestFrameConsistency(MetricContract):
    name = "frame_consistency"

    @pytest.fixture(autouse=True)
    def _weights(self, scorers: Path) -> None:
        self.params = {"weights": str(scorers / "clip")}


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
