"""VBench's totals against published rows, and its metric with a worker that is not the package."""

from __future__ import annotations

import csv
from importlib import import_module
from pathlib import Path

import pytest
import torch

from distillbench import analysis
from distillbench.api.metric import Samples
from distillbench.api.registry import build_metric
from distillbench.errors import BadInput, StageFailed
from distillbench.score import vbench_totals
from distillbench.score.evaluate import evaluate
from distillbench.score.vbench_totals import DIMENSIONS, QUALITY, WITHOUT_DETECTRON, totals

# CogVideoX-2B of the leaderboard: published quality 82.18, semantics 75.83, total 80.91.
ROW = (96.78, 96.63, 98.89, 97.73, 59.86, 60.82, 61.68, 83.37, 62.63, 98.00, 79.41, 69.90, 51.14,
       24.80, 24.36, 26.66)  # fmt: skip
PROMPTS = ("a cat", "a dog")
PUBLISHED = "published/tdm_table4_vbench.csv"


def test_totals_of_a_published_row() -> None:
    raw = {name: value / 100 for name, value in zip(DIMENSIONS, ROW, strict=True)}
    found = {name: round(value, 2) for name, value in totals(raw).items()}
    assert found == {"quality": 82.18, "semantic": 75.83, "total": 80.91}


def test_totals_of_published_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """TDM (arXiv 2503.06674), table 4, prints 81.65 beside its parts, which make 81.66."""
    with Path(str(analysis.__file__)).parent.joinpath(PUBLISHED).open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = {}
    for row in rows:
        monkeypatch.setattr(
            vbench_totals, "part", lambda _, name, row=row: float(row[f"vbench_{name}"])
        )
        found[row["method"]] = round(totals({})["total"], 2)
    assert found == {"CogVideoX-2B": 80.91, "TDM (4 NFE)": 81.66}


def test_a_missing_or_odd_dimension_gives_no_total() -> None:
    raw = dict.fromkeys(DIMENSIONS, 0.5)
    with pytest.raises(BadInput, match="no score of scene"):
        totals({name: value for name, value in raw.items() if name != "scene"})
    with pytest.raises(BadInput, match=r"color is 61\.0, not a raw score"):
        totals(raw | {"color": 61.0})
    assert (len(DIMENSIONS), len(QUALITY), len(WITHOUT_DETECTRON)) == (16, 7, 12)


@pytest.fixture
def data(vbench_data: str) -> Path:
    return Path(vbench_data).parent


def worker(folder: Path, value: str = "0.5", broken: str = "") -> str:
    found: str = import_module("tests.metrics.conftest").vbench_worker(folder, value, broken)
    return found


def videos(n: int = 10) -> Samples:
    rng = torch.Generator().manual_seed(0)
    data = torch.randint(0, 256, (n, 2, 8, 8, 3), generator=rng).to(torch.uint8)
    return Samples(data, [PROMPTS[i % 2] for i in range(n)], [""] * n, 0)


def test_every_dimension_is_a_column(data: Path) -> None:
    everything = build_metric("vbench", {"python": worker(data), "dimensions": "all"})
    scores = evaluate(everything, videos())
    assert set(scores.aggregate) == {"", "quality", "semantic", *DIMENSIONS}
    expected = totals(dict.fromkeys(DIMENSIONS, 0.5))
    assert scores.aggregate[""] == pytest.approx(expected["total"])
    assert everything.label() == "VBench"
    twelve = build_metric("vbench", {"python": worker(data)})
    scores = evaluate(twelve, videos())
    assert set(scores.aggregate) == {"", "quality", *WITHOUT_DETECTRON}
    assert scores.aggregate[""] == scores.aggregate["quality"]
    assert twelve.label() == "VBench quality"


def test_a_dimension_that_fails_fails_the_stage(data: Path) -> None:
    broken = build_metric("vbench", {"python": worker(data, broken="scene")})
    with pytest.raises(StageFailed, match="vbench scene: it ended with code 1") as caught:
        evaluate(broken, videos())
    assert "weights of it are missing" in caught.value.hint
    for value in ("61.0", "None", "'x'"):
        odd = build_metric("vbench", {"python": worker(data, value=value)})
        with pytest.raises(BadInput, match="not a number in"):
            evaluate(odd, videos())


def test_five_videos_of_every_prompt_are_asked_for(data: Path) -> None:
    metric = build_metric("vbench", {"python": worker(data)})
    assert not [n.line for n in metric.requirements(10, PROMPTS) if n.problem]
    lacking = [n.line for n in metric.requirements(8, PROMPTS) if n.problem]
    assert len(lacking) == 1
    assert "wants 5 videos of each of its prompts" in lacking[0]
    with pytest.raises(BadInput, match="wants 5 videos"):
        evaluate(metric, videos(8))


def test_what_is_missing_is_one_line_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTILLBENCH_DATA", str(tmp_path))
    lines = [n.line for n in build_metric("vbench", {}).requirements(10, PROMPTS) if n.problem]
    assert len(lines) == 2
    assert "distillbench env create vbench" in lines[0]
    assert "VBench_full_info.json" in lines[1]
