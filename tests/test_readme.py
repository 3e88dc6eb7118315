"""What README says can be done is done here: its example method trains, its commands parse."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from distillbench.cli.main import run_command

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
EXPERIMENT = """
name: my
backbones: {gmm: {use: gmm}}
base: {backbone: gmm, train: {batch_size: 64, updates: 20}, sample: {n: 64}}
rows: [{method: mine}]
metrics: [coverage]
tables: [{name: my, columns: [label, nfe, coverage]}]
"""
CONTRACT = """
from distillbench.api.registry import add_plugin
from distillbench.testing.method import MethodContract

add_plugin("mine.py")


class TestMine(MethodContract):
    method = "mine"
"""


def example_method() -> str:
    """The README's block that begins with `# mine.py`."""
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (example,) = [block for block in blocks if "mine.py" in block]
    return example


def test_the_example_method_runs_as_a_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(example_method())
    (tmp_path / "my.yaml").write_text(EXPERIMENT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISTILLBENCH_PLUGINS", "")  # restored, whatever the run adds to it
    command = ["run", "my.yaml", "--plugin", "mine.py", "--results", "out", "--workers", "1"]
    assert run_command(command) == 0
    assert "Two for one" in (tmp_path / "out/my/my.md").read_text()


def test_the_example_method_keeps_the_contract_it_recommends(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(example_method())
    (tmp_path / "test_mine.py").write_text(CONTRACT)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout


@pytest.mark.parametrize(
    "command", sorted(set(re.findall(r"^    distillbench (\w+)", README, re.M)))
)
def test_every_command_it_names_exists(command: str) -> None:
    assert run_command([command, "--help"]) == 0


def test_files_it_points_to_exist() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def test_its_numbers_are_those_of_the_reference_table() -> None:
    """Row by row, cell by cell."""
    made = (ROOT / "results/reference/quickstart/quickstart.md").read_text()
    rows = [cells(line) for line in made.splitlines() if line.startswith("|")]
    shown = [cells(line) for line in README.splitlines() if "±" in line and line[0] == "|"]
    assert len(shown) == 6
    assert [row for row in shown if row not in rows] == []


def test_it_is_finished() -> None:
    assert "@@" not in README
