"""`distillbench score`: what it plans, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from distillbench.analysis.check import checked_plan
from distillbench.cli import score
from distillbench.errors import BadInput


@pytest.fixture(autouse=True)
def _pictures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DISTILLBENCH_CACHE", str(tmp_path / "cache"))
    for name in ("a", "b"):
        Path(name).mkdir()
        for i in range(3):
            Image.new("RGB", (4, 4), (i, 0, 0)).save(f"{name}/{i}.png")
    Path("p.txt").write_text("x\ny\nz\n")


def test_a_row_for_each_folder() -> None:
    metrics = ["clip", "hps=hpsv2.1"]
    experiment = score._experiment([Path("a"), Path("b")], "p.txt", 3, metrics)
    plan = checked_plan(experiment)
    assert [cell.name for cell in plan.cells] == ["a", "b"]
    assert experiment.metrics[1].params == {"weights": "hpsv2.1"}
    with pytest.raises(BadInput, match="named twice"):
        score._experiment([Path("a"), Path("a")], "p.txt", 3, metrics)


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("gone",), "no folder gone"),
        (("a", "-n", "5"), "3 files for 5 samples"),
        (("a", "-m", "nothing"), "unknown metric 'nothing'"),
        (("a", "-m", "fid"), "compares with reference samples"),
    ],
)
def test_what_is_wrong_is_one_line(cli: Any, args: tuple[str, ...], text: str) -> None:
    answer = cli("score", *args, "--prompts", "p.txt")
    assert answer.code == 2
    assert text in answer.err
    assert "Traceback" not in answer.err
