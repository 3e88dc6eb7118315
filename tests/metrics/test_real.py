"""Distances to real pictures: the libraries' numbers, and what planning refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch_fidelity
from PIL import Image
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from distillbench.api.metric import Samples
from distillbench.api.registry import build_metric
from distillbench.errors import ConfigError
from distillbench.experiment.load import load_experiment
from distillbench.plan.build import build_plan
from distillbench.plan.stage import Plan
from distillbench.score.evaluate import evaluate
from distillbench.score.features import TinyNet
from distillbench.world import weights as shipped

DIM = int(json.loads((shipped.folder("tiny-inception") / "config.json").read_text())["dim"])
MANY = DIM + 20


def saved(folder: Path, n: int, seed: int, side: int = 32) -> torch.Tensor:
    """n random pictures as PNG."""
    folder.mkdir()
    rng = torch.Generator().manual_seed(seed)
    data = torch.randint(0, 256, (n, side, side, 3), generator=rng).to(torch.uint8)
    for index, picture in enumerate(data.numpy()):
        Image.fromarray(picture).save(folder / f"{index:03d}.png")
    return data


def sample_set(data: torch.Tensor) -> Samples:
    return Samples(data, [f"p{i}" for i in range(len(data))], [""] * len(data), 0)


# ---- the libraries' numbers ----------------------------------------------------------------


def theirs(net: Any, one: Path, two: Path) -> dict[str, float]:
    """All of torch-fidelity, files to distances, on the features of a net of ours."""

    class Extractor(FeatureExtractorBase):  # type: ignore[misc, unused-ignore]
        def __init__(self, name: str, features_list: list[str], **more: Any) -> None:
            super().__init__(name, features_list)

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return ("own",)

        def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor]:
            return (net.encode(pictures.permute(0, 2, 3, 1)).double(),)

    torch_fidelity.register_feature_extractor("own", Extractor)
    found: dict[str, float] = torch_fidelity.calculate_metrics(
        input1=str(one), input2=str(two), feature_extractor="own", cuda=False, fid=True, kid=True,
        kid_subsets=1, kid_subset_size=40, prc=True, verbose=False, cache=False,
        save_cpu_ram=True,
        feature_layer_fid="own", feature_layer_kid="own", feature_layer_prc="own",
    )  # fmt: skip
    return found


def test_distances_of_folders_are_torch_fidelitys(
    scorers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features are rounded: convolutions of other batches differ in their last digits."""
    plain: Callable[..., torch.Tensor] = TinyNet.encode
    monkeypatch.setattr(TinyNet, "encode", lambda net, x: (plain(net, x) * 4096).round() / 4096)
    data = saved(tmp_path / "samples", 40, 1)
    saved(tmp_path / "real", 40, 2)
    setting = {"weights": str(scorers / "features"), "reference": str(tmp_path / "real")}
    ours: dict[str, float] = {}
    net: Any = None
    for name in ("fid", "kid", "precision_recall"):
        metric = build_metric(name, setting)
        scores = evaluate(metric, sample_set(data))
        ours |= {name + column: value for column, value in scores.aggregate.items()}
        net = metric._net  # type: ignore[attr-defined]
    found = theirs(net, tmp_path / "samples", tmp_path / "real")
    assert ours["fid"] == pytest.approx(found["frechet_inception_distance"], rel=1e-9)
    kid = 1000 * found["kernel_inception_distance_mean"]
    assert ours["kid"] == pytest.approx(kid, rel=1e-9)
    assert ours["precision_recall"] == pytest.approx(found["precision"])
    assert ours["precision_recallrecall"] == pytest.approx(found["recall"])


def test_statistics_give_clean_fids_formula(scorers: Path, tmp_path: Path) -> None:
    """|mu_1 - mu_2|^2 + Tr S_1 + Tr S_2 - 2 Tr (S_1 S_2)^(1/2), the root by eigenvalues."""
    data, place = saved(tmp_path / "samples", 40, 3), tmp_path / "stats.npz"
    rng = np.random.default_rng(4)
    mixing = rng.normal(size=(8, 8))
    mean, covariance = rng.normal(size=8), mixing @ mixing.T
    np.savez(place, mu=mean, sigma=covariance)
    metric = build_metric(
        "fid", {"weights": str(scorers / "features"), "reference": {"images": str(place)}}
    )
    value = evaluate(metric, sample_set(data)).aggregate[""]
    features = metric._net.encode(data).double().numpy()  # type: ignore[attr-defined]
    own = np.cov(features, rowvar=False)
    root = np.sqrt(np.linalg.eigvals(own @ covariance).astype(complex)).real.sum()
    shift = features.mean(axis=0) - mean
    expected = shift @ shift + np.trace(own) + np.trace(covariance) - 2 * root
    assert value == pytest.approx(expected, rel=1e-9)


# ---- planning ------------------------------------------------------------------------------

PlanOf = Callable[[str], Plan]
HEAD = """name: t
backbones: {b: tiny-sd}
base: {backbone: b, method: teacher, nfe: 2, sample: {n: 80}}
"""


@pytest.fixture
def plan_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlanOf:
    monkeypatch.setenv("DISTILLBENCH_DATA", str(tmp_path / "data"))

    def plan(text: str) -> Plan:
        path = tmp_path / "e.yaml"
        path.write_text(HEAD + text)
        return build_plan(load_experiment(path))

    return plan


def lines(plan_of: PlanOf, text: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        plan_of(text)
    return str(raised.value).splitlines()


def keys(plan: Plan) -> list[str]:
    return [key for cell in plan.cells for key in cell.scores.values()]


def test_the_files_reference_is_that_of_every_metric(plan_of: PlanOf, tmp_path: Path) -> None:
    real = tmp_path / "real"
    saved(real, 100, 5)
    own = f"{{reference: {{images: {real}}}, allow_small_n: true}}"
    each = plan_of(f"metrics: [clip, {{use: fid, params: {own}}}]\n")
    told = "metrics: [clip, {use: fid, params: {allow_small_n: true}}]\n"
    shared = plan_of(f"reference: {{images: {real}}}\n{told}")
    assert keys(shared) == keys(each)
    assert not any(stage.spec.get("reference") for stage in shared.stages.values())
    (real / "000.png").rename(real / "zzz.png")
    assert keys(plan_of(f"reference: {{images: {real}}}\n{told}")) == keys(shared)
    shutil.copytree(real, tmp_path / "data" / "images" / "mine")
    assert keys(plan_of(f"reference: {{images: mine}}\n{told}")) == keys(shared)
    (real / "zzz.png").unlink()
    assert keys(plan_of(f"reference: {{images: {real}}}\n{told}")) != keys(shared)


def test_a_named_set_may_come_later(plan_of: PlanOf) -> None:
    plan = plan_of("reference: {images: coco}\nmetrics: [kid]\n")
    (metric,) = {s.spec["metric"]["revision"] for s in plan.stages.values() if s.kind == "score"}
    assert metric.endswith("+real:missing:coco")


def test_real_pictures_and_a_teacher_exclude_each_other(plan_of: PlanOf, tmp_path: Path) -> None:
    saved(tmp_path / "real", 4, 6)
    (line,) = lines(plan_of, f"reference: {{images: {tmp_path}/real, nfe: 25}}\nmetrics: [kid]\n")
    assert "whose nfe would mean nothing" in line
    (line,) = lines(plan_of, f"reference: {{images: {tmp_path}/real}}\nmetrics: [lpips]\n")
    assert "lpips compares with a teacher's samples" in line


@pytest.mark.parametrize("at", ["reference: {{images: {0}}}", "params"])
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda p: None, "no folder of pictures and no .npz file at"),
        (lambda p: p.mkdir(), "no pictures (.png"),
        (
            lambda p: saved(p, 9, 7),
            f"holds 9 pictures; FID with {DIM}-d features needs more than {DIM}",
        ),
        (lambda p: (saved(p, MANY, 7), (p / "x.png").write_text("no")), "x.png: not a picture"),
        (lambda p: (saved(p, MANY, 7), _cut(p / "003.png")), "003.png: cannot be decoded"),
        (
            lambda p: (saved(p, MANY, 7), Image.new("RGB", (48, 32)).save(p / "wide.png")),
            f"1 of these {MANY + 1} pictures cannot be scored (wide.png): the tiny extractor takes "
            "samples of 32x32 pixels, not 48x32",
        ),
        (lambda p: _npz(p, mu=np.zeros(3), sigma=np.eye(3)), "mu has shape (3,); finite"),
        (lambda p: _npz(p, mu=np.zeros(DIM), sigma=np.ones(DIM)), f"sigma has shape ({DIM},)"),
        (lambda p: _npz(p, feats=np.ones((9, DIM))), f"holds 9 pictures; FID with {DIM}-d"),
        (lambda p: _npz(p, other=np.zeros(3)), "holds other, not mu and sigma"),
        (lambda p: p.write_text("no"), "is no .npz file"),
    ],
)
def test_what_cannot_be_compared_with_is_one_line(
    make: Callable[[Path], Any], says: str, at: str, plan_of: PlanOf, tmp_path: Path
) -> None:
    place = tmp_path / "real"
    make(place)
    if at == "params":
        text = f"metrics: [clip, {{use: fid, params: {{reference: {place}}}}}]\n"
    else:
        text = f"{at.format(place)}\nmetrics: [clip, fid, patch_fid]\n"
    found = lines(plan_of, text)
    assert len([line for line in found if "Patch" not in line]) == 1
    assert says in found[0]
    assert str(place) in found[0]
    assert found[0].split(":")[1] == "4"


def _npz(path: Path, **arrays: Any) -> None:
    with path.open("wb") as file:
        np.savez(file, **arrays)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-900])


def test_moments_serve_frechet_distances_alone(plan_of: PlanOf, tmp_path: Path) -> None:
    _npz(tmp_path / "real", mu=np.zeros(DIM), sigma=np.eye(DIM))
    text = f"reference: {{images: {tmp_path}/real}}\nmetrics: [fid, kid, precision_recall]\n"
    (line,) = lines(plan_of, text)
    assert "holds mu, sigma, not feats" in line


def test_sixteen_bits_are_scaled_and_not_cut_off(tmp_path: Path) -> None:
    from distillbench.score.real_features import pictures

    Image.fromarray(np.full((4, 5), 257 * 100, np.uint16)).save(tmp_path / "deep.png")
    (found,) = pictures(tmp_path)
    assert found.unique().tolist() == [100]
