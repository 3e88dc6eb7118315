"""Looking into plug-in files: the names they give themselves, and importing them by path."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

from distillbench.errors import PluginError

__all__ = ["import_plugin", "literal_names"]

# A cheap look before parsing: few plug-ins name themselves.
_NAMES_ITSELF = re.compile(r"^    name\b[^=\n]*=\s*[\"']", re.MULTILINE)


def literal_names(text: str) -> list[str]:
    """Literal `name = "..."` of the public top-level classes; a broken file has none."""
    if not _NAMES_ITSELF.search(text):
        return []
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return []
    classes = [c for c in tree.body if isinstance(c, ast.ClassDef) and not c.name.startswith("_")]
    return [name for c in classes for name in map(_literal_name, c.body) if name]


def _literal_name(node: ast.stmt) -> str:
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target = node.targets[0]
    elif isinstance(node, ast.AnnAssign):
        target = node.target
    else:
        return ""
    value = node.value.value if isinstance(node.value, ast.Constant) else None
    named = isinstance(target, ast.Name) and target.id == "name"
    return value if named and isinstance(value, str) else ""


def import_plugin(target: str) -> ModuleType:
    """The module of a dotted name or of a `.py` file, imported once.

    Raises:
        PluginError: it cannot be imported, for whatever reason.
    """
    if target.endswith(".py") and not Path(target).is_file():
        raise PluginError(f"--plugin {target}: no such file")
    try:
        return _by_path(Path(target)) if target.endswith(".py") else importlib.import_module(target)
    except Exception as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise PluginError(f"--plugin {target}: cannot be imported: {what}") from error


def _by_path(path: Path) -> ModuleType:
    # A name of its own: a plug-in called json.py must not become everybody's json.
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:12]
    name = f"distillbench_plugin_{digest}.{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
