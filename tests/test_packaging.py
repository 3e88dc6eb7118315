"""Dependencies are declared; a wheel, installed where no checkout is, runs the smoke experiment."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def imported() -> Iterator[tuple[Path, str]]:
    """Each file of the product with the top-level names of others that it imports."""
    for folder in ("distillbench", "methods", "metrics"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    yield from ((path, alias.name.partition(".")[0]) for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                    yield path, node.module.partition(".")[0]


def test_every_import_is_a_declared_and_pinned_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    # pydantic demands one exact version of its core.
    wanted = [
        "pydantic_core",
        *project["dependencies"],
        *project["optional-dependencies"]["adamw8bit"],
        *project["optional-dependencies"]["ray"],
        *project["optional-dependencies"]["frames"],
        "pytest",
    ]
    declared = {_plain(re.split(r"[<>=\[;]", line)[0]) for line in wanted}
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {_plain(line.split("==")[0]) for line in lines if "==" in line}
    names = importlib.metadata.packages_distributions()
    inside = {"distillbench", "methods", "metrics", *sys.stdlib_module_names}
    for path, name in imported():
        if name in inside:
            continue
        owners = {_plain(owner) for owner in names.get(name, [name])}
        assert owners & declared, f"{path.relative_to(ROOT)} imports {name}: not in pyproject.toml"
        assert owners & pinned, f"{path.relative_to(ROOT)} imports {name}: not in constraints.txt"


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel in a copy of the tree, so that no build folder is left behind."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in filter(None, tracked.stdout.decode().split("\0")):
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).exists():  # else removed and not committed yet
            shutil.copy2(ROOT / name, target, follow_symlinks=False)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    subprocess.run([*build, "."], cwd=source, check=True, capture_output=True)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment that sees the installed libraries but no checkout of the project."""
    home = tmp_path_factory.mktemp("clean")
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    site = next(home.glob("lib/python*/site-packages"))
    # A plain path entry: .pth files inside it (an editable install's) are not followed.
    (site / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    pip = [str(home / "bin/python"), "-m", "pip", "install", "--no-index", "--no-deps", "-q"]
    subprocess.run([*pip, str(wheel)], check=True)
    return home


def test_every_file_beside_the_sources_is_packed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    package, patterns = ROOT / "distillbench", project["tool"]["setuptools"]["package-data"]
    packed = {p: [f for f in package.glob(p) if f.is_file()] for p in patterns["distillbench"]}
    assert [pattern for pattern, files in packed.items() if not files] == []
    there = {f for f in package.rglob("*") if f.is_file() and "__pycache__" not in f.parts}
    data = {f for f in there if f.suffix != ".py"}
    assert data == {f for files in packed.values() for f in files if f.suffix != ".py"}


def test_wheel_holds_plugins_weights_and_templates(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"distillbench/methods/tdm.py", "distillbench/metrics/hps.py"} <= names
    for part in ("tiny-sd/unet", "tiny-pixart/vae"):  # the second is a link in the sources
        file = f"distillbench/world/weights/{part}/diffusion_pytorch_model.safetensors"
        assert file in names
    assert any(n.startswith("distillbench/report/templates/") for n in names)
    assert any(n.startswith("distillbench/analysis/published/") for n in names)
    assert not [n for n in names if n.startswith(("methods/", "metrics/", "tests/"))]


def test_installed_wheel_runs_the_smoke_experiment(clean: Path, tmp_path: Path) -> None:
    (tmp_path / "smoke.yaml").write_text((ROOT / "experiments/smoke.yaml").read_text())
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [str(clean / "bin/distillbench"), "run", "smoke.yaml", "--results", "out"]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert list((tmp_path / "out/smoke").glob("*.tex"))
    where = [str(clean / "bin/python"), "-c", "import distillbench.methods as m; print(m.__file__)"]
    found = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert str(clean) in found.stdout
