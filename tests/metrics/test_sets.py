"""Distances of sets against torch-fidelity and closed forms; real pictures; diversity."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch_fidelity import metric_fid, metric_kid, metric_prc

from distillbench.api.metric import Samples
from distillbench.api.registry import build_metric
from distillbench.errors import BadInput, MissingWeights, NotSupported
from distillbench.score import distances
from distillbench.score.evaluate import evaluate
from distillbench.score.jackknife import leave_out


def features(n: int, d: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    mixing = torch.randn(d, d, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    return torch.randn(n, d, generator=rng, dtype=torch.float64) @ mixing / d**0.5 + shift


def images(n: int, seed: int, prompts: int = 10**6) -> Samples:
    rng = torch.Generator().manual_seed(seed)
    data = torch.randint(0, 256, (n, 32, 32, 3), generator=rng).to(torch.uint8)
    return Samples(data, [f"p{i % prompts}" for i in range(n)], [""] * n, seed)


# ---- the distances -------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "m", "d"), [(300, 200, 64), (90, 70, 64)])
def test_frechet_is_torch_fidelitys(n: int, m: int, d: int) -> None:
    one, two = features(n, d, 0), features(m, d, 1, 0.3)
    stats = [metric_fid.fid_features_to_statistics(x) for x in (one, two)]
    theirs = metric_fid.fid_statistics_to_metric(*stats, verbose=False)[metric_fid.KEY_METRIC_FID]
    assert distances.frechet(one, two) == pytest.approx(theirs, rel=1e-9)
    assert distances.frechet(one, distances.moments(two)) == pytest.approx(theirs, rel=1e-9)


def test_kid_is_torch_fidelitys_with_all_samples_in_one_subset() -> None:
    one, two = features(60, 16, 2), features(60, 16, 3, 0.2)
    theirs = metric_kid.kid_features_to_metric(
        one, two, kid_subsets=1, kid_subset_size=60, verbose=False
    )[metric_kid.KEY_METRIC_KID_MEAN]
    sums = distances.pair_sums(one, two, distances.cubic, 10)
    assert distances.discrepancy(sums, unbiased=True) == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("unbiased", [False, True])
def test_block_sums_leave_out_what_they_say(unbiased: bool) -> None:
    one, two = features(53, 6, 4), features(47, 6, 5, 0.5)
    kernel = distances.gaussian(2.0)
    sums = distances.pair_sums(one, two, kernel, 5)

    def direct(x: torch.Tensor, y: torch.Tensor) -> float:
        return distances.discrepancy(distances.pair_sums(x, y, kernel, 0), unbiased=unbiased)

    expected = [
        direct(one[torch.arange(53) % 5 != b], two[torch.arange(47) % 5 != b]) for b in range(5)
    ]
    assert distances.discrepancy_without(sums, unbiased=unbiased) == pytest.approx(expected)
    assert direct(one, two) == pytest.approx(distances.discrepancy(sums, unbiased=unbiased))


def test_unbiased_discrepancies_are_zero_on_average() -> None:
    values = []
    for seed in range(60):
        one, two = features(30, 4, seed), features(30, 4, 1000 + seed)
        sums = distances.pair_sums(one, two, distances.cubic, 0)
        values.append(distances.discrepancy(sums, unbiased=True))
    spread = float(torch.tensor(values).std()) / 60**0.5
    assert abs(sum(values) / 60) < 3 * spread


def test_precision_and_recall_are_torch_fidelitys() -> None:
    metric = build_metric("precision_recall", {})
    one, two = features(80, 8, 6), features(70, 8, 7, 0.4)
    scores = metric.compare(one, two)  # type: ignore[attr-defined]
    theirs = metric_prc.prc_features_to_metric(one, two, prc_neighborhood=3, verbose=False)
    assert scores.aggregate == {"": theirs["precision"], "recall": theirs["recall"]}


def test_the_vendi_score_counts_different_pictures() -> None:
    basis = torch.eye(4)
    assert distances.vendi(basis) == pytest.approx(4.0)
    assert distances.vendi(basis[[0, 0, 0]]) == pytest.approx(1.0)
    assert distances.vendi(basis[[0, 0, 1, 1]]) == pytest.approx(2.0)


# ---- real pictures -------------------------------------------------------------------------


@pytest.fixture
def real(tmp_path: Path) -> Path:
    folder = tmp_path / "real"
    folder.mkdir()
    for index, picture in enumerate(images(50, 7).data.numpy()):
        Image.fromarray(picture).save(folder / f"{index:03d}.png")
    return folder


def setting(scorers: Path, **more: Any) -> dict[str, Any]:
    return {"weights": str(scorers / "features"), **more}


@pytest.mark.parametrize("name", ["fid", "kid", "patch_fid", "precision_recall"])
def test_a_folder_of_pictures_is_as_good_as_samples(scorers: Path, real: Path, name: str) -> None:
    samples = images(40, 8)
    to_real = evaluate(build_metric(name, setting(scorers, reference=str(real))), samples)
    to_samples = evaluate(build_metric(name, setting(scorers)), samples, images(50, 7))
    assert to_real.aggregate == pytest.approx(to_samples.aggregate, rel=1e-4)
    assert to_real.protocol["reference"] == "real pictures"


def test_statistics_of_clean_fid_are_as_good_as_the_pictures(scorers: Path, real: Path) -> None:
    metric = build_metric("fid", setting(scorers, reference=str(real)))
    samples = images(40, 8)
    expected = evaluate(metric, samples)
    found = metric._other()  # type: ignore[attr-defined]
    moments = distances.moments(found)
    place = real.parent / "stats.npz"
    np.savez(place, mu=moments.mean.numpy(), sigma=moments.covariance.numpy())
    again = evaluate(build_metric("fid", setting(scorers, reference=str(place))), samples)
    assert again.aggregate[""] == pytest.approx(expected.aggregate[""], rel=1e-9)
    assert len(again.blocks[""]) == 10
    np.savez(place, feats=found.numpy())
    kid = evaluate(build_metric("kid", setting(scorers, reference=str(place))), samples)
    assert math.isfinite(kid.aggregate[""])


def test_real_pictures_decide_the_key_whatever_they_are_called(scorers: Path, real: Path) -> None:
    built = build_metric("fid", setting(scorers, reference=str(real)))
    assert not built.info.needs_reference
    before = built.revision()
    (real / "000.png").rename(real / "zzz.png")
    assert built.revision() == before
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(real / "zzz.png")
    assert built.revision() != before
    assert build_metric("fid", setting(scorers)).info.needs_reference


def test_what_is_no_set_of_real_pictures_is_one_line(
    scorers: Path, real: Path, tmp_path: Path
) -> None:
    samples, empty = images(40, 8), tmp_path / "empty"
    empty.mkdir()
    nothing = build_metric("fid", setting(scorers, reference=str(empty)))
    assert "no pictures" in next(n.line for n in nothing.requirements(40) if n.problem)
    with pytest.raises(MissingWeights, match="no pictures"):
        nothing.revision()
    (real / "broken.png").write_bytes(b"no picture")
    with pytest.raises(BadInput, match=r"broken\.png cannot be read"):
        evaluate(build_metric("fid", setting(scorers, reference=str(real))), samples)
    place = tmp_path / "stats.npz"
    for arrays, says in (
        ({"mu": np.zeros(3), "sigma": np.eye(3)}, "mu has shape"),
        ({"other": np.zeros(3)}, "holds other, not mu and sigma"),
        ({"mu": np.full(8, np.nan), "sigma": np.eye(8)}, "finite numbers"),
        ({"mu": np.zeros(8), "sigma": np.eye(7)}, "sigma has shape"),
        ({"mu": np.zeros(8), "sigma": np.triu(np.ones((8, 8)))}, "no covariance matrix"),
        ({"mu": np.zeros(8), "sigma": -np.eye(8)}, "no covariance matrix"),
        ({"feats": np.zeros((50, 3))}, "feats has shape"),
        ({"feats": np.array(["x"] * 8)}, "feats has shape"),
    ):
        np.savez(place, **arrays)
        with pytest.raises(BadInput, match=says):
            evaluate(build_metric("fid", setting(scorers, reference=str(place))), samples)
    place.write_bytes(b"no archive")
    with pytest.raises(BadInput, match=r"is no \.npz file"):
        evaluate(build_metric("fid", setting(scorers, reference=str(place))), samples)


def test_grey_and_one_pixel_pictures_of_a_folder_are_read(tmp_path: Path) -> None:
    from distillbench.score.real_features import pictures

    Image.new("L", (5, 4), 7).save(tmp_path / "a.png")
    Image.new("RGBA", (1, 1), (1, 2, 3, 4)).save(tmp_path / "b.png")
    found = list(pictures(tmp_path))
    assert [tuple(p.shape) for p in found] == [(1, 4, 5, 3), (1, 1, 1, 3)]
    assert found[0].unique().tolist() == [7]


def test_patches_are_of_pictures_that_are_large_enough(scorers: Path) -> None:
    small = dataclasses.replace(images(12, 0), data=images(12, 0).data[:, :9, :9])
    with pytest.raises(NotSupported, match="takes samples of 16 pixels a side or more, not 9x9"):
        evaluate(build_metric("patch_fid", setting(scorers)), small, small)


# ---- diversity -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["diversity", "vendi"])
def test_one_picture_for_every_noise_is_no_diversity(scorers: Path, name: str) -> None:
    weights = {"diversity": "features", "vendi": "clip"}[name]
    metric = build_metric(name, {"weights": str(scorers / weights)})
    varied = images(60, 1, prompts=20)
    same = dataclasses.replace(varied, data=varied.data[:20].repeat(3, 1, 1, 1))
    least = {"diversity": 0.0, "vendi": 1.0}[name]
    scores = evaluate(metric, same)
    assert scores.aggregate[""] == pytest.approx(least, abs=1e-5)
    assert evaluate(metric, varied).aggregate[""] > least + 1e-3
    assert len(scores.blocks[""]) == 10
    needs = [n.line for n in metric.requirements(20, varied.prompts[:20]) if n.problem]
    assert "raise sample.n to 40" in needs[0]
    with pytest.raises(BadInput, match="no prompt has two samples"):
        evaluate(metric, images(5, 0))


def test_pairs_need_the_same_prompts(scorers: Path) -> None:
    metric = build_metric("lpips", {"weights": str(scorers / "features")})
    one = images(4, 0)
    assert evaluate(metric, one, one).aggregate[""] == pytest.approx(0.0, abs=1e-9)
    with pytest.raises(BadInput, match="there are no pairs"):
        evaluate(metric, one, dataclasses.replace(one, prompts=["q"] * 4))


def test_an_error_over_blocks_covers_the_kernel_distance() -> None:
    """Jackknife of the unbiased kernel distance against its spread over fresh sets."""
    values, errors = [], []
    for seed in range(40):
        one, two = features(100, 4, seed), features(100, 4, 500 + seed, 0.4)
        sums = distances.pair_sums(one, two, distances.cubic, 10)
        values.append(distances.discrepancy(sums, unbiased=True))
        left = distances.discrepancy_without(sums, unbiased=True)
        mean = sum(left) / 10
        errors.append(math.sqrt(0.9 * sum((v - mean) ** 2 for v in left)))
    assert 0.75 < sum(errors) / 40 / float(torch.tensor(values).std()) < 1.4
    assert leave_out(lambda stay: 0.0, 10, 10) == []
