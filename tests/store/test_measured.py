"""Scores of one recipe of a training, as its store has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from distillbench.api.samplers import from_recipe
from distillbench.store.measured import Measured, measured

RECIPE = {"kind": "ode", "solver": "ddim", "timesteps": [999, 749, 499, 249], "guidance_scale": 1.0}


def stage(root: Path, kind: str, key: str, spec: dict[str, Any], **files: str) -> None:
    folder = root / kind / key
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text(json.dumps({"label": key, "spec": spec}))
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)


def test_values_of_the_recipe_alone(tmp_path: Path) -> None:
    (tmp_path / "train/t1").mkdir(parents=True)
    stage(tmp_path, "sample", "s1", {"train": "t1", "sampler": RECIPE})
    stage(tmp_path, "sample", "s2", {"train": "t1", "sampler": {**RECIPE, "solver": "euler"}})
    stage(tmp_path, "sample", "s3", {"train": "t1", "sampler": RECIPE, "onto": "t2"})
    rows = [{"kind": "sample", "index": 0, "column": "", "value": 3.0},
            {"kind": "aggregate", "column": "", "value": 2.5, "n": 8, "stderr": 0.5},
            {"kind": "aggregate", "column": "photo", "value": 9.0, "n": 2}]  # fmt: skip
    scores = "\n".join(map(json.dumps, rows))
    for number in (1, 2, 3):
        told = {"protocol_json": json.dumps({"label": f"M{number}"}), "scores_jsonl": scores}
        stage(tmp_path, "score", f"c{number}", {"sample": f"s{number}"}, **told)
    stage(tmp_path, "score", "c4", {"sample": "s1"}, scores_jsonl="no json")
    found = measured(tmp_path / "train/t1", from_recipe(RECIPE))
    assert found == [Measured("M1", 2.5, 8, 0.5)]
