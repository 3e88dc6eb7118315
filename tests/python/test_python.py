"""The Python door: the same runs, results and errors as on the command line."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import distillbench
from distillbench.api.registry import BACKBONES, METHODS, METRICS, PLUGINS_VARIABLE
from distillbench.errors import BadInput, ConfigError, StageFailed

FAKES = str(Path(__file__).parent.parent / "config" / "fakes.py")
SMALL = {
    "name": "small",
    "backbones": {"gmm": {"use": "gmm"}},
    "base": {"backbone": "gmm", "train": {"batch_size": 8}, "sample": {"n": 64}},
    "rows": [
        {"label": "DDIM", "method": "teacher", "params": {"guidance_scale": 1.0}, "nfe": 4},
        {"label": "LCM", "method": "lcm", "nfe": 4, "train": {"updates": 2},
         "params": {"teacher_guidance": 1.0, "nets": "copy"}},
    ],
    "seeds": [0, 1],
    "metrics": ["sw", "coverage"],
}  # fmt: skip


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    os.environ.pop(PLUGINS_VARIABLE, None)
    for registry in (METHODS, METRICS, BACKBONES):
        registry.reset()


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A small experiment, run from a mapping."""
    return distillbench.run(SMALL, results=tmp_path_factory.mktemp("there") / "res", workers=1)


def test_a_mapping_is_run_like_a_file(done: Any) -> None:
    assert (done.folder / "report.html").is_file()
    again = distillbench.run(SMALL, results=done.root)
    assert again.plan.stages.keys() == done.plan.stages.keys()


def test_results_are_frames(done: Any) -> None:
    pytest.importorskip("pandas")
    frames = done.frames()
    assert set(frames) == {"results", "cost"}
    table = frames["results"]
    assert list(table["label"]) == ["DDIM", "LCM"]
    assert {"sw", "sw_stderr", "sw_n"} <= set(table.columns)
    assert table["sw"].dtype == float
    assert (frames["cost"]["train_seconds"] >= 0).all()


def test_tables_are_means_of_tidy_values_and_costs(done: Any) -> None:
    pytest.importorskip("pandas")
    values, costs, frames = done.values(), done.costs(), done.frames()
    run = ["row", "backbone", "nfe", "updates", "seed"]
    assert list(values) == [*run, "metric", "prompt", "category", "sample", "value"]
    assert list(costs) == [*run, "measure", "value"]
    assert set(values["metric"]) >= {"sw", "coverage", "coverage_within"}
    for frame, tidy, names, by in (
        (frames["results"], values, ["sw", "coverage"], "metric"),
        (frames["cost"], costs, ["train_seconds", "sample_ms"], "measure"),
    ):
        for _, line in frame.iterrows():
            for name in names:
                own = tidy[(tidy["row"] == line["label"]) & (tidy[by] == name)]
                assert set(own["seed"]) == {0, 1}
                assert math.fsum(own["value"]) / len(own) == line[name]
    within = values[values["metric"] == "coverage_within"]
    assert len(within.dropna(subset="sample")) in (0, len(within))


def test_rows_are_compared_as_in_a_claim(done: Any) -> None:
    verdict = done.compare("DDIM", "LCM", "sw")
    assert verdict.seeds == 2
    assert verdict.low <= verdict.difference <= verdict.high
    same = distillbench.compare("DDIM", "LCM", "sw", experiment=SMALL, results=done.root)
    assert same == verdict
    with pytest.raises(BadInput, match="no row"):
        done.compare("DDIM", "nobody", "sw")
    with pytest.raises(BadInput, match="no metric 'fid'"):
        done.compare("DDIM", "LCM", "fid")


def test_a_student_samples(done: Any) -> None:
    key = done.plan.cells[-1].train
    student = distillbench.load_student(key[:8], results=done.root, device="cpu")
    points = student.sample(["condition 0", "condition 1"], nfe=2, seed=3)
    assert [p.shape for p in points] == [(2,), (2,)]
    again = student.sample("condition 0", nfe=2, seed=3)[0]
    assert again == pytest.approx(points[0])
    with pytest.raises(BadInput, match="no stage with that key"):
        distillbench.load_student("zz", results=done.root)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"metrics": ["nothing"]}, "nothing"),
        ({"rows": [{"method": "lcm", "params": {"lr": "x"}}]}, "lr"),
        ({"nam": 1}, "nam"),
        ({"seeds": {1, 2}}, "not JSON serializable"),
    ],
)
def test_errors_are_those_of_the_command_line(change: dict[str, Any], text: str) -> None:
    with pytest.raises((ConfigError, BadInput), match=text) as error:
        distillbench.run({**SMALL, **change})
    assert "/tmp" not in str(error.value)
    assert not Path("results").exists()


def test_a_mappings_paths_are_those_of_the_working_folder(tmp_path: Path) -> None:
    base = {**SMALL["base"], "sample": {"n": 4, "prompts": "none.txt"}}
    with pytest.raises(ConfigError) as error:
        distillbench.run({**SMALL, "base": base})
    assert str(error.value).endswith(f" (neither beside the experiment nor in {tmp_path})")


def test_no_such_file_and_no_results(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nowhere.yaml: no such file"):
        distillbench.run("nowhere.yaml")
    pytest.importorskip("pandas")
    with pytest.raises(BadInput, match="no tables there"):
        distillbench.results(tmp_path)


def test_what_failed_is_raised_after_the_rest_is_done(tmp_path: Path) -> None:
    rows = [*SMALL["rows"], {"label": "bad", "method": "lcm", "nfe": 4, "train": {"updates": 2},
            "params": {"teacher_guidance": 1.0, "nets": "copy", "lr": 1e9}}]  # fmt: skip
    with pytest.raises(StageFailed, match="not finite"):
        distillbench.run({**SMALL, "rows": rows, "seeds": [0]}, results=tmp_path / "r", workers=1)
    assert (tmp_path / "r/small/report.html").is_file()


def test_the_package_offers_nothing_else() -> None:
    assert callable(distillbench.run)
    assert distillbench.run.__name__ == "distillbench.run"
    with pytest.raises(AttributeError):
        distillbench.nothing  # noqa: B018
