"""A teacher whose network lies behind a link: when the link turns, so does the score."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from distillbench.analysis.aggregate import Results
from distillbench.experiment.schema import Experiment
from distillbench.plan.build import build_plan
from distillbench.run.worker import run_stage
from distillbench.store.layout import Store
from distillbench.world import weights

RAW = {
    "name": "x",
    "backbones": {"mine": {"use": "sd", "params": {"model": "./T"}}},
    "base": {
        "backbone": "mine",
        "sample": {"n": 8, "batch_size": 8, "prompts": "world-eval"},
        "data": {"prompts": "world-train"},
        "train": {"batch_size": 2, "updates": 1},
        "nfe": 4,
    },
    "metrics": ["clip"],
    "rows": [{"label": "Teacher", "method": "teacher", "guidance_scale": 3.0}],
}


@pytest.fixture
def teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """T/unet -> ../current -> v1, and v2 beside it with noise in its weights."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(Path(weights.__file__).parent / "weights" / "tiny-sd", "T")
    shutil.move("T/unet", "v1")
    shutil.copytree("v1", "v2")
    Path("T/unet").symlink_to("../current")
    Path("current").symlink_to("v1")
    file = Path("v2/diffusion_pytorch_model.safetensors")
    torch.manual_seed(0)
    noisy = {
        name: value + 0.3 * value.std().nan_to_num(0) * torch.randn_like(value)
        for name, value in load_file(file).items()
    }
    save_file(noisy, file)


def score(folder: str) -> tuple[float, list[str]]:
    """The CLIP score that the results folder comes to, and how each stage ended."""
    plan = build_plan(Experiment.model_validate(RAW))
    store = Store(Path(folder) / "store")
    store.prepare()
    ended = [run_stage(stage, store_root=store.root).status for stage in plan.stages.values()]
    results = Results(plan, store)
    value = results.value(results.rows[0], "clip").value
    assert value is not None
    return value, list(map(str, ended))


@pytest.mark.usefixtures("teacher")
def test_the_score_follows_the_link() -> None:
    before, _ = score("one")
    Path("current").unlink()
    Path("current").symlink_to("v2")
    after, ended = score("one")
    fresh, _ = score("two")
    assert ended == ["done"] * 3
    assert after == fresh
    assert before == pytest.approx(65.45, abs=0.05)
    assert after == pytest.approx(46.73, abs=0.05)
    assert score("one") == (after, ["cached"] * 3)
