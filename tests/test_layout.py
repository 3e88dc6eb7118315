"""The house rules that keep the layout honest: floors, circles, packaging list, naming."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ENGINE = ROOT / "distillbench"
TOPS = ("distillbench", "methods", "metrics")
# Rooms from the ground up: nothing imports upward, and nothing runs in a circle, in functions and
# for types too.
FLOORS = (
    ("", "_version", "boot", "core", "errors"),
    ("files",),
    ("api",),
    ("drawings", "experiment", "finite", "numerics", "outlines", "specs", "store", "world"),
    ("backbones", "data", "score"),
    ("metrics", "plan", "student"),
    ("analysis", "run", "sample", "train"),
    ("methods", "report", "testing"),
    ("cli", "python"),
    ("__main__", "tiny_training"),
)
HEAVY = {"torch", "torchvision", "diffusers", "transformers", "open_clip", "ray", "pandas"}
TORCH_FREE = ("analysis", "cli", "experiment", "files", "plan", "report", "run", "specs", "store")
PLUGIN_PACKAGES = ("distillbench.methods.", "distillbench.metrics.")
PLUGIN_IMPORTS = {"api", "core", "errors"}


def modules(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*.py"))


Graph = Mapping[str, set[str]]


def files(root: Path) -> dict[str, Path]:
    """Dotted module name -> file; the plug-in folders as they are installed."""
    found = {}
    for top in TOPS:
        for path in sorted((root / top).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            parts = parts if top == "distillbench" else ("distillbench", *parts)
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, *, top_level: bool = False) -> Iterator[str]:
    """Dotted names a file imports, `a.b` for `import a.b` and for `from a import b`; inside
    functions and for type checks too, or at module level alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def graph(root: Path) -> dict[str, set[str]]:
    """Module -> modules of ours that it imports, anywhere in the file."""
    known = files(root)
    edges = {}
    for module, path in known.items():
        targets = {_owner(name, known) for name in imports(path)}
        edges[module] = targets - {"", "distillbench", module}
    return edges


def rooms(edges: Graph) -> dict[str, set[str]]:
    """The same between rooms: the second part of a module's name."""
    out: dict[str, set[str]] = {}
    for module, targets in edges.items():
        out.setdefault(room(module), set()).update(room(t) for t in targets)
    return {name: targets - {name} for name, targets in out.items()}


def room(module: str) -> str:
    """`distillbench.plan.build` -> `plan`; "" for the package itself."""
    return [*module.split("."), ""][1]


def circle(edges: Graph) -> list[str]:
    """One circle of imports, [] where there is none."""
    try:
        tuple(TopologicalSorter(edges).static_order())
    except CycleError as error:
        return list(error.args[1])
    return []


def upward(edges: Graph) -> list[str]:
    """Imports from a floor to a higher one, as `a -> b`."""
    level = {name: height for height, names in enumerate(FLOORS) for name in names}
    return [
        f"{module} -> {target}"
        for module, targets in sorted(edges.items())
        for target in sorted(targets)
        if level[room(target)] > level[room(module)]
    ]


def _owner(name: str, known: Mapping[str, Path]) -> str:
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name


def ours(path: Path) -> set[str]:
    """Rooms that a file imports from."""
    return {room(n) for n in imports(path) if n.split(".")[0] == "distillbench"}


def test_nothing_imports_upward() -> None:
    edges = graph(ROOT)
    known = {name for floor in FLOORS for name in floor}
    assert {room(module) for module in edges} <= known, "a room that has no floor"
    assert upward(edges) == []


def test_nothing_runs_in_a_circle() -> None:
    edges = graph(ROOT)
    assert circle(edges) == []
    assert circle(rooms(edges)) == []


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("core/grid.py", "def f() -> None:\n    from distillbench.run import driver\n"),
        ("files/io.py", "from distillbench import api\n"),
        ("store/lease.py", "if TYPE_CHECKING:\n    import distillbench.cli.main\n"),
    ],
)
def test_a_planted_import_upward_is_found(tmp_path: Path, where: str, line: str) -> None:
    planted = tree_with(tmp_path, where, line)
    assert len(upward(graph(planted))) == 1


def test_a_planted_circle_is_found(tmp_path: Path) -> None:
    planted = tree_with(tmp_path, "core/noise.py", "from distillbench.core import solve\n")
    planted = tree_with(tmp_path, "core/lazy.py", "from distillbench.core import noise\n")
    assert "distillbench.core.noise" in circle(graph(planted))


def tree_with(folder: Path, where: str, line: str) -> Path:
    """A copy of the sources with a line more in one file."""
    for path in files(ROOT).values():
        copy = folder / path.relative_to(ROOT)
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    target = folder / "distillbench" / where
    target.write_text(f"{target.read_text()}\n{line}")
    return folder


@pytest.mark.parametrize("package", TORCH_FREE)
def test_no_torch_at_module_level(package: str) -> None:
    for path in modules(ENGINE / package):
        heavy = {n for n in imports(path, top_level=True) if n.split(".")[0] in HEAVY}
        assert not heavy, f"{path.relative_to(ROOT)} imports {heavy} at module level"


@pytest.mark.parametrize("folder", ["methods"])
def test_plugins_import_the_plugin_surface_and_each_other_alone(folder: str) -> None:
    for path in modules(ROOT / folder):
        assert ours(path) <= PLUGIN_IMPORTS | {folder}, f"{path.name} imports {ours(path)}"


def test_a_method_is_one_page() -> None:
    from distillbench.api.registry import METHODS

    pages = sorted((ROOT / "methods").glob("[!_]*.py"))
    assert [page.stem for page in pages if page.stem in METHODS.names()] == [p.stem for p in pages]
    assert [p.name for p in (ROOT / "methods").glob("_*.py")] == ["__init__.py"]
    longest = {page.stem: page.read_text().count("\n") for page in pages}
    assert max(longest.values()) <= 130, longest


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
    listed = set(project["tool"]["setuptools"]["packages"])
    folders = {p.parent.relative_to(ROOT).as_posix() for p in ENGINE.rglob("__init__.py")}
    inside = {folder.replace("/", ".") for folder in folders}
    found = (p for top in ("methods", "metrics") for p in (ROOT / top).rglob("__init__.py"))
    plugins = {".".join(("distillbench", *p.parent.relative_to(ROOT).parts)) for p in found}
    assert listed == inside | plugins
    assert len(project["tool"]["setuptools"]["packages"]) == len(listed)


@pytest.mark.parametrize("bare", ["methods", "metrics"])
def test_bare_plugin_folders_refuse_to_be_imported(bare: str) -> None:
    command = [sys.executable, "-c", f"import {bare}"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode != 0
    assert f"import distillbench.{bare}" in result.stderr


def test_importing_every_plugin_leaves_torch_out() -> None:
    code = (
        "import sys; from distillbench.api.registry import METHODS, METRICS, BACKBONES\n"
        "for registry in (METHODS, METRICS, BACKBONES):\n"
        "    for name in registry.names(): registry.get(name)\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_no_script_hides_a_standard_module() -> None:
    """Its folder comes first on the path of every script beside it."""
    scripts = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    assert not scripts & sys.stdlib_module_names


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
