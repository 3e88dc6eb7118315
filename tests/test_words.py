"""One word, one meaning: no two public classes of the product share a name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.test_layout import ROOT, files, room

# Worlds are two data sets of one shape, and the trainings of the shipped weights a program apart.
APART = {"drawings", "world", "tiny_training"}
# Options of the command line have the names that are typed; they are read as `arguments.NAME`.
ALLOWED = {(name, "distillbench.cli.arguments") for name in ("Plugin", "Results", "Run")}


def public(path: Path) -> Iterator[str]:
    """Classes and aliases of types that a module defines for others."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    names = {name: node for node in body for name in _defined(node)}
    listed = names.pop("__all__", None)
    offered = None if listed is None else {
        node.value for node in ast.walk(listed) if isinstance(node, ast.Constant)
    }  # fmt: skip
    for name in names:
        kind = name[0].isupper() and not name.isupper()
        if kind and (offered is None or name in offered):
            yield name


def _defined(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.ClassDef):
        yield node.name
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    yield from (target.id for target in targets if isinstance(target, ast.Name))


def homonyms(root: Path) -> dict[str, list[str]]:
    """Name -> the modules that define it, where there are several."""
    found: dict[str, list[str]] = {}
    for module, path in files(root).items():
        for name in public(path):
            if room(module) not in APART and (name, module) not in ALLOWED:
                found.setdefault(name, []).append(module)
    return {name: modules for name, modules in found.items() if len(modules) > 1}


def test_no_two_public_classes_share_a_name() -> None:
    assert homonyms(ROOT) == {}


def test_what_is_allowed_is_there() -> None:
    for name, module in ALLOWED:
        assert name in set(public(files(ROOT)[module])), "an exception that nothing needs"


def test_a_planted_homonym_is_found(tmp_path: Path) -> None:
    for where, text in (("plan/a.py", "class Cell: ..."), ("methods/b.py", "Cell = int")):
        path = tmp_path / ("" if where.startswith("methods") else "distillbench") / where
        path.parent.mkdir(parents=True)
        path.write_text(text)
    assert homonyms(tmp_path) == {"Cell": ["distillbench.plan.a", "distillbench.methods.b"]}
