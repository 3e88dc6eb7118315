"""No process of ours imports what lies in the current folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from distillbench.boot import command, import_path, remote_call

ROOT = Path(__file__).parent.parent.parent
TRAPS = ("json", "pydantic", "random", "typing_extensions", "numpy", "torch", "yaml", "typer")


@pytest.fixture
def trapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with modules that end whoever imports them, as the current one."""
    for name in TRAPS:
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('took {name} of this folder')\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def environment() -> dict[str, str]:
    """The user's own, with the project found as it is found here."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_a_child_takes_nothing_of_the_current_folder(
    trapped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    done = subprocess.run(command("distillbench.boot:import_path"), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "" not in import_path()


def test_the_command_takes_nothing_of_the_current_folder(trapped: Path) -> None:
    (trapped / "x.yaml").write_text((ROOT / "experiments" / "smoke.yaml").read_text())
    for module in ("distillbench", "distillbench.cli.main"):
        line = [sys.executable, "-m", module, "validate", "x.yaml"]
        done = subprocess.run(line, capture_output=True, text=True, env=environment())
        assert (done.returncode, done.stderr) == (0, "")
        assert "x.yaml: ok" in done.stdout


def test_python_m_is_the_command() -> None:
    line = [sys.executable, "-m", "distillbench", "--version"]
    done = subprocess.run(line, capture_output=True, text=True, env=environment(), cwd="/")
    assert done.stdout.startswith("distillbench ")


def test_what_travels_to_other_workers_is_the_function_itself(
    trapped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", ["", "/elsewhere", *sys.path])
    function, (package, outside) = remote_call()
    assert function.__module__ == "__main__"  # pickled by value: no import on the other side
    assert Path(package) == ROOT / "distillbench"
    assert "/elsewhere" in outside
    before = list(sys.path)
    assert function(package, ["/more"], "distillbench.boot:import_path")[-1] == "/more"
    monkeypatch.setattr(sys, "path", before)
