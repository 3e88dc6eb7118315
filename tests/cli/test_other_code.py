"""What plans and runs say of results of other code and of older keys; the rows of one training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distillbench.files.io import sha256

Cli = Callable[..., Any]


def old_store(keys: dict[str, dict[str, Any]]) -> None:
    """Finished stages as the first version of keys left them, with markers that have no seal."""
    for name, spec in keys.items():
        folder = Path("results/store") / name
        folder.mkdir(parents=True)
        record = {"kind": folder.parent.name, "key": folder.name, "label": "Old", "spec": spec}
        (folder / "spec.json").write_text(json.dumps(record))
        (folder / "cost.json").write_text('{"seconds": 2.5}')
        files = {
            path.name: {"size": path.stat().st_size, "sha256": sha256(path)}
            for path in folder.iterdir()
        }
        marker = {"files": files, "attempt": 1, "finished": 1.0}
        (folder / "done.json").write_text(json.dumps(marker))


V1 = {
    "train/a1": {"identity": 1, "method": {"name": "lcm"}, "backbone": {"name": "sd"},
                 "train": {"steps": 7}, "seed": 3},
    "sample/b1": {"identity": 1, "train": "a1"},
    "score/c1": {"identity": 1, "sample": "b1"},
    "train/d2": {"seed": 1},
}  # fmt: skip


def test_results_of_an_older_version_are_told_and_still_read(cli: Cli) -> None:
    assert "older version" not in cli("plan", "e.yaml", fakes=True).out
    old_store(V1)
    lines = [x for x in cli("plan", "e.yaml", fakes=True).out.split("\n") if "older version" in x]
    assert len(lines) == 1
    assert lines[0].startswith("  3 stored stage(s) of an older version are not used")
    assert cli("plan", "e.yaml", "--json", fakes=True).json["older_version"] == 3
    shown = cli("show", "a1").out
    assert "state   done" in shown
    assert "train.steps: 7" in shown
    assert "seconds: 2.5" in shown
    rows = {row["run"]: row for row in cli("list", "runs", "--json").json}
    assert rows["a1"]["state"] == "done"
    assert (rows["a1"]["method"], rows["a1"]["updates"], rows["a1"]["seed"]) == ("lcm", 7, 3)
