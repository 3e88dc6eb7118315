"""The pages for plug-in authors say what works: their examples run and keep the contract."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from distillbench.analysis.check import checked_plan
from distillbench.api.registry import BACKBONES, METHODS
from distillbench.cli.main import run_command
from distillbench.errors import ConfigError
from distillbench.experiment.load import load_experiment
from distillbench.experiment.reference import reference

ROOT = Path(__file__).resolve().parent.parent


def write_examples(page: Path, folder: Path) -> list[str]:
    """Write each block that begins with `# file` under its name; returns the names."""
    names = []
    for block in re.findall(r"```\w+\n(.*?)```", page.read_text(), re.DOTALL):
        found = re.match(r"# ([\w.]+\.\w+)", block)
        if found:
            (folder / found[1]).write_text(block)
            names.append(found[1])
    return names


@pytest.mark.parametrize(
    ("page", "files"),
    [
        ("methods", ["regression.py", "my.yaml", "test_regression.py"]),
        ("metrics", ["contrast.py", "test_contrast.py"]),
        ("backbones", ["ring.py", "points.yaml", "test_ring.py"]),
        (
            "own-parts",
            ["matching.py", "jump.py", "own.yaml", "grey_kid.py", "pictures.yaml", "test_own.py"],
        ),
    ],
)
def test_the_examples_keep_their_contract(page: str, files: list[str], tmp_path: Path) -> None:
    assert write_examples(ROOT / "docs" / f"{page}.md", tmp_path) == files
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", files[-1]]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout
    (tmp_path / "prompts.txt").write_text("\n".join("01234567"))
    for file in tmp_path.glob("*.yaml"):
        plan = [sys.executable, "-m", "distillbench", "plan", file.name]
        own = [] if "plugins:" in file.read_text() else ["--plugin", files[0]]
        ended = subprocess.run(plan + own, cwd=tmp_path, env=environment, capture_output=True)
        assert ended.returncode == 0, ended.stderr


def test_the_example_experiments_plan(tmp_path: Path) -> None:
    files = write_examples(ROOT / "docs" / "experiments.md", tmp_path)
    assert files == ["mine.yaml", "sweep.yaml", "ablation.yaml"]
    mine, sweep, ablation = (checked_plan(load_experiment(tmp_path / name)) for name in files)
    assert {cell.updates for cell in mine.cells if cell.label == "TDM"} == {100, 200, 500}
    assert (len(sweep.cells), len({cell.train for cell in sweep.cells})) == (6, 6)
    assert [cell.label for cell in ablation.cells] == [
        "Teacher", "Teacher", "TDM-unify", "w/o surrogate objective", "w/o unify training",
        "4 steps", "2 steps",
    ]  # fmt: skip


@pytest.mark.parametrize(("page", "cells"), [("claims", 15), ("figures", 8)])
def test_examples_of_claims_and_figures_plan(page: str, cells: int, tmp_path: Path) -> None:
    (file,) = write_examples(ROOT / "docs" / f"{page}.md", tmp_path)
    assert len(checked_plan(load_experiment(tmp_path / file)).cells) == cells


def test_the_examples_of_published_checkpoints_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for those that have the reader's own files."""
    monkeypatch.chdir(tmp_path)
    files = write_examples(ROOT / "docs" / "checkpoints.md", tmp_path)
    assert files == [
        "published.yaml", "styled.yaml", "steered.yaml", "theirs.yaml", "carried.yaml"
    ]  # fmt: skip
    for file, ending in (
        ("published", "no weights in mine.safetensors: no such file or folder"),
        ("styled", "no weights in papercut.safetensors: no such file or folder"),
        ("theirs", "no folder theirs/seed-0"),
    ):
        with pytest.raises(ConfigError) as caught:
            checked_plan(load_experiment(tmp_path / f"{file}.yaml"))
        (problem,) = caught.value.problems
        assert problem.endswith(ending)
    carried = checked_plan(load_experiment(tmp_path / "carried.yaml"))
    assert [cell.label for cell in carried.cells] == ["LCM-LoRA", "Teacher"]
    steered = checked_plan(load_experiment(tmp_path / "steered.yaml"))
    assert all("control" in steered.stages[cell.sample].spec for cell in steered.cells)


def test_the_example_method_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_examples(ROOT / "docs" / "methods.md", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISTILLBENCH_PLUGINS", "")  # restored, whatever the run adds to it
    quick = ["--set", "base.train.updates=20", "--set", "base.sample.n=64", "--workers", "1"]
    command = ["run", "my.yaml", "--plugin", "regression.py", "--results", "out", *quick]
    assert run_command(command) == 0
    assert "Regression" in (tmp_path / "out/my/my.md").read_text()
    METHODS.reset()  # other tests list what is registered


def test_the_example_backbone_is_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_examples(ROOT / "docs" / "backbones.md", tmp_path)
    (tmp_path / "prompts.txt").write_text("".join(f"{i}\n" for i in range(8)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISTILLBENCH_PLUGINS", "")
    quick = ["--set", "base.train.updates=10", "--set", "base.sample.n=16", "--workers", "1"]
    assert run_command(["run", "points.yaml", "--plugin", "ring.py", *quick]) == 0
    assert "| TDM | 4 |" in (tmp_path / "results/points/points.md").read_text()
    BACKBONES.reset()


@pytest.mark.parametrize(
    ("page", "file", "printed"),
    [
        ("results", "use.py", "TDM 4 "),
        ("python", "door.py", "Verdict(text='TDM > LCM[nfe=4] on sw'"),
    ],
)
def test_the_examples_in_python_run(page: str, file: str, printed: str, tmp_path: Path) -> None:
    """As they stand on the page, with fewer updates and samples."""
    assert write_examples(ROOT / "docs" / f"{page}.md", tmp_path) == [file]
    text = (ROOT / "experiments/smoke.yaml").read_text()
    for long, short in (("300", "10"), ("150", "10"), ("n: 2000", "n: 64"), ("[0, 1]", "[0]")):
        assert long in text
        text = text.replace(long, short)
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments/smoke.yaml").write_text(text)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, file]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert printed in ended.stdout


def test_no_example_is_left_out(tmp_path: Path) -> None:
    """Every fenced block of a page is a file of an example, which one of these tests runs."""
    examples = {
        "methods": 3, "metrics": 2, "backbones": 3, "experiments": 3, "results": 1,
        "checkpoints": 5, "claims": 1, "figures": 1, "python": 1, "own-parts": 6,
    }  # fmt: skip
    for page in sorted((ROOT / "docs").glob("*.md")):
        blocks = page.read_text().count("```") // 2
        named = write_examples(page, tmp_path)
        assert len(named) == blocks == examples.get(page.stem, 0), page.name


def test_the_reference_of_the_file_is_what_the_models_say() -> None:
    page = ROOT / "docs" / "experiment-file.md"
    assert page.read_text() == reference(), (
        "run: python -m distillbench.experiment.reference > docs/experiment-file.md"
    )
