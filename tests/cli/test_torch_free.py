"""Commands that must answer at once never import torch, in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
CODE = (
    "import sys\n"
    "from distillbench.cli.main import run_command\n"
    "code = run_command(sys.argv[1:])\n"
    "heavy = {'torch', 'torchvision', 'diffusers', 'transformers', 'ray', 'pandas', 'matplotlib'}\n"
    "found = heavy & set(sys.modules)\n"
    "sys.exit(f'imports {found}' if found else code)\n"
)


@pytest.mark.parametrize(
    "args",
    [
        ["--help"],
        ["run", "--help"],
        ["list", "methods"],
        ["list", "metrics"],
        ["list", "backbones"],
        ["list", "experiments"],
        ["list", "runs"],
        ["plan", "experiments/smoke.yaml"],
        ["plan", "experiments/smoke.yaml", "--json"],
        ["validate", "experiments/smoke.yaml"],
        ["run", "experiments/smoke.yaml", "--dry-run"],
        ["table", "experiments/smoke.yaml"],
        ["agreement", "results/reference"],
        ["env", "list"],
    ],
    ids=" ".join,
)
def test_no_torch(args: list[str], tmp_path: Path) -> None:
    results = ["--results", str(tmp_path)] if args[0] in ("plan", "run", "table") else []
    results = [] if "--help" in args else results
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", CODE, *args, *results],
        cwd=ROOT, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_a_real_process_has_the_exit_code_of_its_error(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "distillbench.cli.main", "plan", "none.yaml"],
        cwd=tmp_path.parent, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "error: none.yaml: no such file.\n"


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = f"{sys.executable} -m distillbench.cli.main list methods | true"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        cwd=ROOT, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr
