"""How large samples are is known before anything is loaded, and metrics are asked about it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from distillbench.analysis.check import checked_plan
from distillbench.api import registry
from distillbench.errors import ConfigError
from distillbench.experiment.load import load_experiment

PARAMS: dict[str, dict[str, Any]] = {
    "sd": {"resolution": (64, 32)}, "sdxl": {}, "sd3": {"text_length": 8},
    "pixart": {"text_length": 8}, "cogvideox": {"frames": 9, "height": 64, "width": 32},
}  # fmt: skip


@pytest.mark.parametrize("family", PARAMS)
def test_they_are_those_of_what_is_decoded(folders: Callable[[str], Path], family: str) -> None:
    params = {"model": str(folders(family)), **PARAMS[family]}
    backbone: Any = registry.build_backbone(family, params)
    found = backbone.footprint()
    backbone.load()
    shape = backbone.decode(torch.zeros(1, *backbone.latent_shape)).shape
    assert found.sample_size == tuple(shape[-3:-1])
    assert found.sample_bytes == shape.numel()


def planned(folder: Path, rest: str, metrics: str) -> str:
    file = folder / "e.yaml"
    compared = "reference: {method: teacher, nfe: 3}"
    file.write_text(f"name: t\n{rest}\n{compared}\nmetrics: {metrics}\n")
    with pytest.raises(ConfigError) as caught:
        checked_plan(load_experiment(file))
    return str(caught.value)


def test_a_metric_that_does_not_take_them_is_refused_at_planning(
    folders: Callable[[str], Path], tmp_path: Path
) -> None:
    prompts = tmp_path / "p.txt"
    prompts.write_text("a red car\na dog\n")
    params = json.dumps({"model": str(folders("sd")), "resolution": 64})
    rest = (
        f"backbones: {{b: {{use: sd, params: {params}}}}}\n"
        f"base: {{backbone: b, nfe: 2, sample: {{n: 2, prompts: {prompts}}}}}\n"
        "rows: [{method: teacher}]"
    )
    told = planned(tmp_path, rest, "[fid, kid, precision_recall, lpips, diversity, hps, patch_fid]")
    lines = [line for line in told.splitlines() if "cannot score" in line]
    assert len(lines) == 5, told
    for name, line in zip(("fid", "kid", "precision_recall", "lpips", "diversity"), lines):
        assert f"{name} cannot score what backbone 'b' makes" in line
        assert "32x32 pixels, not 64x64" in line


def test_pictures_from_elsewhere_are_asked_about_too(tmp_path: Path) -> None:
    shown = tmp_path / "made"
    shown.mkdir()
    (tmp_path / "p.txt").write_text("a red car\na dog\n")
    for number in range(2):
        Image.fromarray(np.zeros((8, 48, 3), np.uint8)).save(shown / f"{number}.png")
    rest = (
        f"base: {{sample: {{n: 2, prompts: {tmp_path / 'p.txt'}}}}}\n"
        f"rows: [{{samples: {shown}, nfe: 1, label: theirs}}]"
    )
    told = planned(tmp_path, rest, "[diversity, patch_fid]")
    assert "diversity cannot score these: the tiny extractor takes samples of 32x32" in told
    assert "16 pixels a side or more, not 48x8" in told
