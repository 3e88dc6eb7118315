"""HPS and ImageReward through their own packages: the protocol, and the same numbers as natively.

The comparisons with the packages run where `distillbench env create hpsv2` and `... image-reward`
were run:  python -m pytest tests/metrics/test_packages.py
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from distillbench.api.metric import Samples
from distillbench.api.registry import build_metric
from distillbench.errors import BadInput, StageFailed
from distillbench.score import reward
from distillbench.score.envs import is_created
from distillbench.score.evaluate import evaluate
from distillbench.score.packaged import pinned_package

FAKE = """#!{python}
import json, sys
import numpy as np
from PIL import Image
job, *items = [json.loads(line) for line in sys.stdin]
assert job["package"] == {package!r} and job["checkpoint"] and job["device"] == "cpu"
for item in items[: len(items) - {short}]:
    grey = float(np.asarray(Image.open(item["picture"])).mean()) / 255
    print(json.dumps({{"id": item["id"], "score": {score} }}))
print(json.dumps({{"done": len(items)}}))
"""


def worker(folder: Path, package: str, score: str = "grey", short: int = 0) -> str:
    """An interpreter in name that answers with the brightness of its pictures."""
    path = folder / "worker"
    text = FAKE.format(python=sys.executable, package=package, score=score, short=short)
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


CASES = [("hps", "hpsv2", "hps", 100.0), ("image_reward", "image-reward", "reward", 1.0)]


@pytest.fixture
def folders(scorers: Path, hub: Path) -> dict[str, Path]:
    return {"hps": scorers / "hps", "reward": hub / "reward"}


@pytest.mark.parametrize(("name", "package", "weights", "scale"), CASES)
def test_a_package_scores_every_picture(
    name: str, package: str, weights: str, scale: float, folders: dict[str, Path],
    pictures: Samples, tmp_path: Path,
) -> None:  # fmt: skip
    setting = {"weights": str(folders[weights]), "backend": "package"}
    metric = build_metric(name, {**setting, "python": worker(tmp_path, package)})
    scores = evaluate(metric, pictures)
    expected = pictures.data.double().flatten(1).mean(dim=1) / 255 * scale
    assert scores.per_sample[""] == pytest.approx(expected.tolist())
    assert scores.protocol["backend"] == pinned_package(package)
    assert set(scores.aggregate) == {"", "photo", "anime"}
    assert not [need for need in metric.requirements(6) if need.problem]
    native = build_metric(name, {"weights": str(folders[weights])})
    assert metric.revision() == f"{native.revision()}+{pinned_package(package)}"
    assert "backend" not in evaluate(native, pictures).protocol


@pytest.mark.parametrize(("name", "package", "weights", "scale"), CASES)
@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"score": "float('nan')"}, "item 0 has no finite score: nan"),
        ({"score": "1 / 0"}, "it ended with code 1 after 0 of 6 scores"),
        ({"score": "'x'"}, "item 0 has no finite score: 'x'"),
        ({"short": 1}, "5 scores for 6 items"),
    ],
)
def test_a_package_that_fails_fails_the_stage(
    name: str, package: str, weights: str, scale: float, more: dict[str, Any], says: str,
    folders: dict[str, Path], pictures: Samples, tmp_path: Path,
) -> None:  # fmt: skip
    setting = {"weights": str(folders[weights]), "backend": "package"}
    metric = build_metric(name, {**setting, "python": worker(tmp_path, package, **more)})
    with pytest.raises(StageFailed, match=says) as raised:
        evaluate(metric, pictures)
    assert f"package {package}" in str(raised.value)


@pytest.mark.parametrize(("name", "package", "weights", "scale"), CASES)
def test_a_missing_environment_is_one_line(
    name: str, package: str, weights: str, scale: float, folders: dict[str, Path],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("DISTILLBENCH_DATA", str(tmp_path))
    metric = build_metric(name, {"weights": str(folders[weights]), "backend": "package"})
    (line,) = [need.line for need in metric.requirements(6) if need.problem]
    assert f"distillbench env create {package}" in line
    with pytest.raises(BadInput, match="is not there"):
        metric.load()


def test_legacy_resizing_is_native_alone(folders: dict[str, Path]) -> None:
    setting = {"weights": str(folders["hps"]), "backend": "package", "antialias": False}
    with pytest.raises(BadInput, match="native backend alone"):
        build_metric("hps", setting)


# ---- the packages themselves ---------------------------------------------------------------


def needs(package: str) -> Any:
    return pytest.mark.skipif(
        not is_created(package), reason=f"distillbench env create {package} was not run"
    )


def both(name: str, weights: Path, pictures: Samples) -> list[list[float]]:
    return [
        list(evaluate(build_metric(name, {"weights": str(weights), "backend": backend}), pictures)
             .per_sample[""])
        for backend in ("native", "package")
    ]  # fmt: skip


@needs("hpsv2")
def test_hpsv2_gives_the_native_numbers(folders: dict[str, Path], pictures: Samples) -> None:
    native, theirs = both("hps", folders["hps"], pictures)
    assert max(native) - min(native) > 1e-2
    assert theirs == pytest.approx(native, abs=1e-3)  # of 100 x cosine: 1e-5


def random_scorers() -> Any:
    """The module that makes checkpoints of published sizes for benchmarks."""
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "random_scorers.py"
    spec = importlib.util.spec_from_file_location("random_scorers", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.timeout(3600)
@needs("image-reward")
def test_image_reward_gives_the_native_numbers(
    tmp_path: Path, pictures: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bits one picture at a time, as the package reads them; in batches sums round
    otherwise. A random checkpoint of the published size, as the package's sizes are fixed."""
    random_scorers().reward(tmp_path, layers=2)  # of 12
    few = Samples(pictures.data[:3], pictures.prompts[:3], pictures.categories[:3], 0)
    native, theirs = both("image_reward", tmp_path, few)
    assert max(native) - min(native) > 1e-4
    assert theirs == pytest.approx(native, abs=1e-5)
    monkeypatch.setattr(reward, "BATCH", 1)
    metric = build_metric("image_reward", {"weights": str(tmp_path)})
    assert list(evaluate(metric, few).per_sample[""]) == theirs
