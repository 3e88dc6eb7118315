"""The house rules that keep the layout honest: import directions, packaging list, naming."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ENGINE = ROOT / "distillbench"

SHARED = {"core", "errors", "datadir", "boot", "fields"}
NETS = {"backbones", "train", "sample", "world", "registry", "store"}
ALLOWED = {
    "core": {"core"},
    "backbones": SHARED | {"backbones", "world", "train", "sample", "store"},
    "train": SHARED | NETS,
    "sample": SHARED | NETS | {"score"},
}
HEAVY = {"torch", "torchvision", "diffusers", "transformers", "open_clip", "ray"}
TORCH_FREE = ("run", "report", "config", "store", "cli")
PLUGIN_PACKAGES = ("distillbench.methods.", "distillbench.metrics.")
PLUGIN_IMPORTS = {"core", "train", "sample", "errors", "backbones", "fields"}


def modules(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*.py"))


def imports(path: Path, *, top_level: bool = False) -> Iterator[str]:
    """Dotted names a file imports (absolute); only at module level if asked."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level else list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module


def ours(path: Path, **kwargs: bool) -> set[str]:
    names = [n.split(".") for n in imports(path, **kwargs) if n.split(".")[0] == "distillbench"]
    return {n[1] for n in names if len(n) > 1}


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_engine_packages_import_only_what_they_may(package: str) -> None:
    for path in modules(ENGINE / package):
        assert ours(path) <= ALLOWED[package], f"{path.relative_to(ROOT)} imports {ours(path)}"


@pytest.mark.parametrize("package", TORCH_FREE)
def test_no_torch_at_module_level(package: str) -> None:
    for path in modules(ENGINE / package):
        heavy = {n for n in imports(path, top_level=True) if n.split(".")[0] in HEAVY}
        assert not heavy, f"{path.relative_to(ROOT)} imports {heavy} at module level"


def test_methods_import_only_the_mathematics_and_the_plugin_surface() -> None:
    for path in modules(ROOT / "methods"):
        assert ours(path) <= PLUGIN_IMPORTS, f"{path.name} imports {ours(path)}"


def test_a_method_is_one_page() -> None:
    from distillbench.registry import METHODS

    pages = sorted((ROOT / "methods").glob("[!_]*.py"))
    assert [page.stem for page in pages if page.stem in METHODS.names()] == [p.stem for p in pages]
    assert [p.name for p in (ROOT / "methods").glob("_*.py")] == ["__init__.py"]
    longest = {page.stem: page.read_text().count("\n") for page in pages}
    assert max(longest.values()) <= 170, longest


def test_what_methods_share_never_calls_back() -> None:
    """Settings import no mathematics of methods, shared files no method."""
    for folder in ("settings", "shared"):
        for path in modules(ROOT / "methods" / folder):
            tree = ast.walk(ast.parse(path.read_text()))
            found = [node for node in tree if isinstance(node, ast.ImportFrom)]
            above = {node.module for node in found if node.level > 1}
            assert all((name or "").startswith("settings.") for name in above), path.name
            assert folder == "shared" or not above, path.name
            assert "methods" not in ours(path), path.name


def test_the_engine_names_no_plugin() -> None:
    for path in modules(ENGINE):
        named = {n for n in imports(path) if n.startswith(PLUGIN_PACKAGES)}
        assert not named, f"{path.relative_to(ROOT)} names {named}"


def test_package_list_equals_the_folders() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = project["tool"]["setuptools"]["packages"]
    inside = [p.parent.relative_to(ENGINE.parent) for p in ENGINE.rglob("__init__.py")]
    beside = [
        Path("distillbench") / p.parent.relative_to(ROOT)
        for plugins in ("methods", "metrics")
        for p in (ROOT / plugins).rglob("__init__.py")
    ]
    assert sorted(listed) == sorted(".".join(p.parts) for p in (*inside, *beside))


@pytest.mark.parametrize("bare", ["methods", "metrics"])
def test_bare_plugin_folders_refuse_to_be_imported(bare: str) -> None:
    command = [sys.executable, "-c", f"import {bare}"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode != 0
    assert f"import distillbench.{bare}" in result.stderr


def test_importing_every_plugin_leaves_torch_out() -> None:
    code = (
        "import sys; from distillbench.registry import METHODS, METRICS, BACKBONES\n"
        "for registry in (METHODS, METRICS, BACKBONES):\n"
        "    for name in registry.names(): registry.get(name)\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_files_and_functions_stay_readable() -> None:
    for folder in (ENGINE, ROOT / "methods", ROOT / "metrics"):
        for path in modules(folder):
            text = path.read_text()
            assert text.count("\n") <= 300, f"{path.relative_to(ROOT)} is over 300 lines"
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.FunctionDef):
                    length = (node.end_lineno or 0) - node.lineno + 1
                    where = f"{path.relative_to(ROOT)}:{node.lineno}"
                    assert length <= 60, f"{where}: {node.name} has {length} lines"
