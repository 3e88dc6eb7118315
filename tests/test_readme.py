"""What README says can be done is done here: its example method trains, its commands parse."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from distillbench.cli.main import run_command

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
EXPERIMENT = """
name: my
backbones: {gmm: {use: gmm}}
base: {backbone: gmm, train: {batch_size: 64, steps: 20}, sample: {n: 64}}
rows: [{method: mine}]
metrics: [coverage]
tables: [{name: my, columns: [label, nfe, coverage]}]
"""


def test_the_example_method_runs_as_a_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (example,) = [block for block in blocks if "mine.py" in block]
    (tmp_path / "mine.py").write_text(example)
    (tmp_path / "my.yaml").write_text(EXPERIMENT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISTILLBENCH_PLUGINS", "")  # restored, whatever the run adds to it
    command = ["run", "my.yaml", "--plugin", "mine.py", "--results", "out", "--workers", "1"]
    assert run_command(command) == 0
    assert "Two for one" in (tmp_path / "out/my/my.md").read_text()


@pytest.mark.parametrize(
    "command", sorted(set(re.findall(r"^    distillbench (\w+)", README, re.M)))
)
def test_every_command_it_names_exists(command: str) -> None:
    assert run_command([command, "--help"]) == 0


def test_files_it_points_to_exist() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_it_is_finished() -> None:
    assert "@@" not in README
