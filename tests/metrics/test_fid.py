"""The Frechet distance against closed forms, and the rules that keep its numbers comparable."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from distillbench.api.metric import Samples
from distillbench.api.registry import METRICS, build_metric
from distillbench.errors import BadInput, MissingWeights, NotSupported
from distillbench.score.evaluate import evaluate, protocol
from distillbench.score.jackknife import block_stderr, leave_out


def fid() -> Any:
    return importlib.import_module("distillbench.score.distances")


def gaussian(n: int, d: int, seed: int, *, shift: float = 0.0, scale: float = 1.0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return shift + scale * torch.randn(n, d, generator=rng, dtype=torch.float64)


def with_moments(features: torch.Tensor, mean: torch.Tensor, root: torch.Tensor) -> torch.Tensor:
    """Features moved to have exactly this mean and covariance root root'."""
    centred = features - features.mean(dim=0)
    covariance = centred.T @ centred / (len(centred) - 1)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), centred.T, upper=False)
    return white.T @ root.T + mean


def images(n: int, seed: int, key: str = "") -> Samples:
    rng = torch.Generator().manual_seed(seed)
    data = torch.randint(0, 256, (n, 32, 32, 3), generator=rng).to(torch.uint8)
    return Samples(data, [f"p{i}" for i in range(n)], [""] * n, seed, key)


def test_diagonal_gaussians_have_a_closed_form() -> None:
    """|mu|^2 + sum (s_1 - s_2)^2."""
    d = 6
    s1 = torch.linspace(0.5, 2.0, d, dtype=torch.float64)
    s2 = torch.linspace(1.5, 0.2, d, dtype=torch.float64)
    mu = torch.arange(d, dtype=torch.float64) / 3
    one = with_moments(gaussian(50, d, 0), torch.zeros(d, dtype=torch.float64), torch.diag(s1))
    two = with_moments(gaussian(70, d, 1), mu, torch.diag(s2))
    expected = float(mu.square().sum() + (s1 - s2).square().sum())
    assert math.isclose(fid().frechet(one, two), expected, rel_tol=1e-10)


def test_full_covariances_agree_with_the_eigenvalues_of_their_product() -> None:
    one = gaussian(60, 5, 2) @ gaussian(5, 5, 3)
    two = gaussian(80, 5, 4) @ gaussian(5, 5, 5) + 1
    s1, s2 = torch.cov(one.T), torch.cov(two.T)
    root = torch.linalg.eigvals(s1 @ s2).real.clamp_min(0).sqrt().sum()
    shift = (one.mean(0) - two.mean(0)).square().sum()
    expected = float(shift + s1.trace() + s2.trace() - 2 * root)
    assert math.isclose(fid().frechet(one, two), expected, rel_tol=1e-9)


def test_few_samples_take_the_nuclear_norm_to_the_same_value() -> None:
    """n <= d: singular covariances; the symmetric form still gives the trace to compare with."""
    a, b = gaussian(7, 12, 6), gaussian(9, 12, 7)
    through_moments = fid().frechet(a, fid().moments(b))
    assert math.isclose(fid().frechet(a, b), through_moments, rel_tol=1e-6)


@pytest.mark.parametrize(("n", "d"), [(100, 8), (6, 8)])
def test_identical_sets_are_at_zero(n: int, d: int) -> None:
    one = gaussian(n, d, 8)
    assert fid().frechet(one, one.clone()) < 1e-8
    assert fid().frechet(one, one.flip(0)) < 1e-8


def test_distance_grows_with_shift_and_spread_and_is_symmetric() -> None:
    base = gaussian(400, 4, 9)
    shifted = [fid().frechet(base, gaussian(400, 4, 10, shift=s)) for s in (0.0, 0.5, 1.0, 2.0)]
    spread = [fid().frechet(base, gaussian(400, 4, 10, scale=s)) for s in (1.0, 1.5, 2.0, 3.0)]
    assert shifted == sorted(shifted)
    assert spread == sorted(spread)
    other = gaussian(300, 4, 11, shift=1.0, scale=0.5)
    assert math.isclose(fid().frechet(base, other), fid().frechet(other, base), rel_tol=1e-10)


def test_distance_falls_with_n_so_that_n_is_part_of_the_protocol() -> None:
    values = [fid().frechet(gaussian(n, 8, n), gaussian(n, 8, n + 1)) for n in (20, 80, 320, 1280)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 10 * values[-1]


def test_jackknife_error_matches_the_spread_over_fresh_sets() -> None:
    def statistic(one: torch.Tensor, two: torch.Tensor) -> float:
        return float(fid().frechet(one, two))

    pairs = [(gaussian(200, 4, s), gaussian(200, 4, 1000 + s, shift=0.5)) for s in range(60)]
    spread = torch.tensor([statistic(*pair) for pair in pairs]).std()
    errors = [
        block_stderr(leave_out(lambda s, p=pair: statistic(p[0][s], p[1][s]), 200, 10))  # type: ignore[misc]
        for pair in pairs[:20]
    ]
    assert 0.75 < sum(errors) / len(errors) / float(spread) < 1.35


def test_jackknife_of_a_mean_is_its_standard_error() -> None:
    values = gaussian(40, 1, 12).squeeze(1)
    blocked = torch.stack([values[i::20].mean() for i in range(20)])
    left_out = leave_out(lambda stay: float(values[stay].mean()), 40, 20)
    assert math.isclose(block_stderr(left_out), float(blocked.std()) / 20**0.5, rel_tol=1e-9)
    assert leave_out(lambda stay: 0.0, 39, 20) == []


def test_paired_blocks_are_calibrated(scorers: Path) -> None:
    """A null difference of two sets that share noise with a third: at most 6 % beyond t_9."""
    wrong, draws = 0, 60
    for seed in range(draws):
        base, *more = (gaussian(120, 4, 7 * seed + i) for i in range(4))
        reference, one, two = (base + 0.7 * x for x in more)
        left = [
            leave_out(lambda s, x=x: float(fid().frechet(x[s], reference[s])), 120, 10)  # type: ignore[misc]  # noqa: B023
            for x in (one, two)
        ]
        value = float(fid().frechet(one, reference) - fid().frechet(two, reference))
        wrong += abs(value) > 2.262 * block_stderr([a - b for a, b in zip(*left, strict=True)])
    assert wrong / draws <= 0.06 + 2 * math.sqrt(0.06 * 0.94 / draws)


# ---- the metric -----------------------------------------------------------------------------


def test_zero_against_itself_and_positive_against_others(scorers: Path) -> None:
    metric = build_metric("fid", {"weights": str(scorers / "features")})
    samples = images(60, 0)
    assert evaluate(metric, samples, samples).aggregate[""] < 1e-6
    scores = evaluate(metric, samples, images(60, 1))
    assert scores.aggregate[""] > 1e-6
    assert scores.stderr[""] > 0
    assert not scores.per_sample


def test_too_few_samples_are_refused_unless_allowed(scorers: Path) -> None:
    params = {"weights": str(scorers / "features")}
    with pytest.raises(BadInput, match="more than 8 samples, not 8") as info:
        evaluate(build_metric("fid", params), images(8, 0), images(8, 1))
    assert "sample.n" in info.value.hint
    small = build_metric("fid", params | {"allow_small_n": True})
    scores = evaluate(small, images(8, 0), images(8, 1))
    assert scores.aggregate[""] > 0
    assert not scores.stderr, "blocks of one sample have no sound error"
    many = evaluate(build_metric("fid", params), images(40, 0), images(40, 1))
    assert len(many.blocks[""]) == 10


@pytest.mark.parametrize("n", [1, 2])
def test_one_sample_has_no_covariance(scorers: Path, n: int) -> None:
    params = {"weights": str(scorers / "features"), "allow_small_n": True}
    metric = build_metric("fid", params)
    needs = [need.problem for need in metric.requirements(n) if need.kind == "samples"]
    if n >= 2:
        assert not any(needs)
        assert evaluate(metric, images(n, 0), images(n, 1)).aggregate[""] > 0
        return
    assert needs == ["FID needs at least 2 samples for a covariance, not 1"]
    with pytest.raises(BadInput, match="at least 2 samples"):
        evaluate(metric, images(1, 0), images(9, 1))
    with pytest.raises(BadInput, match="at least 2 samples"):
        evaluate(metric, images(9, 0), images(1, 1))


def test_its_notes_say_that_it_is_biased() -> None:
    assert "biased upward" in METRICS.get("fid").info.caveat


def test_what_must_not_be_mixed_differs_in_the_protocol(scorers: Path, tmp_path: Path) -> None:
    metric = build_metric("fid", {"weights": str(scorers / "features")})
    seen = []
    for n, reference_n in ((40, 40), (50, 50), (40, 50)):
        one, two = images(n, 0), images(reference_n, 1)
        seen.append(protocol(metric, one, evaluate(metric, one, two)))
    path = inception(tmp_path)
    pin = f"#sha256={hashlib.sha256(path.read_bytes()).hexdigest()}"
    other = build_metric("fid", {"weights": f"{path}{pin}", "allow_small_n": True})
    one, two = images(4, 0), images(4, 1)
    seen.append(protocol(other, one, evaluate(other, one, two)))
    assert all(a != b for i, a in enumerate(seen) for b in seen[:i])
    assert seen[0]["resize"] == "none"
    assert seen[-1]["resize"] == "clean-299"


def inception(folder: Path) -> Path:
    """A TorchScript file with what clean-fid uses of NVIDIA's: `.layers` to 2048 numbers."""

    class Layers(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            pooled = torch.nn.functional.adaptive_avg_pool2d(x, [32, 64])
            return pooled.mean(dim=1).reshape(-1, 2048, 1, 1)

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = Layers()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layers(x)

    path = folder / "inception-2015-12-05.pt"
    torch.jit.script(Net()).save(str(path))
    return path


def test_published_inception_takes_the_same_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISTILLBENCH_DATA", str(tmp_path))
    metric = build_metric("fid", {"weights": "inception-2015", "allow_small_n": True})
    with pytest.raises(MissingWeights, match=r"inception-2015-12-05\.pt"):
        metric.load()
    folder = tmp_path / "weights" / "inception-2015"
    folder.mkdir(parents=True)
    inception(folder)
    white = torch.full((3, 40, 50, 3), 255, dtype=torch.uint8)
    samples = Samples(white, ["a", "b", "c"], [""] * 3, 0)
    metric.load()
    features = metric._net.features(samples)  # type: ignore[attr-defined]
    assert features.shape == (3, 2048)
    assert torch.allclose(features, torch.full_like(features, 127 / 128))
    assert metric.label() == "FID"


def test_the_tiny_net_refuses_other_sizes(scorers: Path) -> None:
    metric = build_metric("fid", {"weights": str(scorers / "features")})
    samples = images(10, 0)
    large = dataclasses.replace(samples, data=torch.zeros(10, 64, 64, 3, dtype=torch.uint8))
    with pytest.raises(NotSupported, match="32x32"):
        evaluate(metric, large, large)


def test_torchscript_runs_only_where_its_digest_is_pinned(tmp_path: Path) -> None:
    path = inception(tmp_path)
    with pytest.raises(BadInput, match="pin the one you mean as"):
        build_metric("fid", {"weights": str(path)})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    other = build_metric("fid", {"weights": f"{path}#sha256={'0' * 64}"})
    with pytest.raises(BadInput, match=f"its sha256 is {digest}, not the pinned 0000"):
        other.load()
    build_metric("fid", {"weights": f"{path}#sha256={digest}"}).load()
