"""Which source files make a plug-in's numbers, read without running any of them (no torch).

From a plug-in's own file the imports are followed, relative and absolute, at module level and in
functions, as far as they stay where numbers are made: the plug-in's own package (the folder, for a
`--plugin` file), the packages of plug-ins, and the mathematics of the engine. Imports for type
checkers decide nothing and are passed over; imports by computed names are not seen.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import distillbench
from distillbench.files.hashes import file_sha256
from distillbench.files.io import json_text

__all__ = ["Origin", "origin_of"]

ENGINE = "distillbench"
PLUGINS = ("distillbench.backbones", "distillbench.methods", "distillbench.metrics")
MATHEMATICS = ("distillbench.core", "distillbench.score", "distillbench.world",
               "distillbench.drawings", "distillbench.api.sampler", "distillbench.api.samplers",
               "distillbench.api.stock_samplers")  # fmt: skip
BY_PATH = "distillbench_plugin_"
SHORT = 16

Roots = Mapping[str, Path]
"""Dotted name -> the folder of that package, or the path of that module without its suffix."""


@dataclass(frozen=True)
class Origin:
    """The source of one plug-in.

    Attributes:
        source: name of its own file.
        files: name of each file its numbers come from -> the beginning of its sha256.
    """

    source: str
    files: Mapping[str, str]

    @property
    def sha256(self) -> str:
        """Digest of all of them."""
        return hashlib.sha256(json_text(dict(sorted(self.files.items()))).encode()).hexdigest()

    def as_json(self) -> dict[str, Any]:
        """What a stage keeps of it."""
        return {"source": self.source, "sha256": self.sha256, "files": dict(self.files)}


@cache
def origin_of(plugin: type) -> Origin:
    """The source of a plug-in's class as this process first saw it; a class of no file has none."""
    module = plugin.__module__
    place = getattr(sys.modules.get(module), "__file__", None)
    if not place:
        return Origin("", {})
    path = Path(place).absolute()
    name = path.stem if module.startswith(BY_PATH) else module
    roots = {**_engine(), **_own(name, path)}
    found: dict[Path, str] = {}
    todo = [name]
    while todo:
        dotted = todo.pop()
        file = path if dotted == name else _file(dotted, roots)
        if file is None or file in found:
            continue
        found[file] = _shown(dotted, file)
        todo += _mentioned(_imports(dotted, file))
    files = {shown: _digest(file) for file, shown in found.items()}
    return Origin(path.name, dict(sorted(files.items())))


def _digest(file: Path) -> str:
    """The beginning of its sha256; "gone" where it cannot be read any more."""
    try:
        return file_sha256(file, book="source")[:SHORT]
    except OSError:
        return "gone"


@cache
def _engine() -> Roots:
    """Where the packages of plug-ins and the mathematics of the engine lie."""
    home = Path(distillbench.__file__).absolute().parent
    inside = {name: home.joinpath(*name.split(".")[1:]) for name in MATHEMATICS}
    found = {name: Path(importlib.import_module(name).__path__[0]) for name in PLUGINS}
    return {**inside, **found}


def _own(name: str, path: Path) -> Roots:
    """The package of a plug-in that is not the engine's; "" is a folder of loose modules."""
    top, *rest = name.split(".")
    if top == ENGINE:
        return {}
    if rest:
        return {top: path.parents[len(rest) - 1]}
    # Beside an installed module lie all other packages of the installation.
    installed = any(part.endswith("-packages") for part in path.parts)
    return {} if installed else {"": path.parent}


def _file(name: str, roots: Roots) -> Path | None:
    """The file of a module where numbers are made; None for any other name."""
    within = [root for root in roots if root == name or name.startswith(f"{root}.")]
    if not within and "" in roots and name.split(".")[0] != ENGINE:
        within = [""]
    for root in within:
        rest = name.removeprefix(root).removeprefix(".")
        base = roots[root].joinpath(*filter(None, rest.split(".")))
        for file in (base.with_name(f"{base.name}.py"), base / "__init__.py"):
            if file.is_file():
                return file
    return None


def _shown(name: str, file: Path) -> str:
    """A file's name in records: the same on every machine."""
    inside = name.removeprefix(f"{ENGINE}.").replace(".", "/")
    return f"{inside}/__init__.py" if file.name == "__init__.py" else f"{inside}.py"


def _mentioned(names: tuple[str, ...]) -> list[str]:
    """The names with those of the packages they lie in, which are run on the way."""
    parts = (name.split(".") for name in names)
    return [".".join(p[:n]) for p in parts for n in range(1, len(p) + 1)]


@cache
def _imports(name: str, file: Path) -> tuple[str, ...]:
    """Dotted names a file imports; none where it cannot be read, as then it cannot run."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return ()
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    return tuple(dict.fromkeys(_names(tree, package)))


def _names(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
        base = ".".join([*filter(None, above), *filter(None, [node.module])])
        yield from (f"{base}.{alias.name}" if base else alias.name for alias in node.names)
    elif isinstance(node, ast.If) and _for_types(node.test):
        for statement in node.orelse:
            yield from _names(statement, package)
    else:
        for part in ast.iter_child_nodes(node):
            yield from _names(part, package)


def _for_types(test: ast.expr) -> bool:
    return "TYPE_CHECKING" in (getattr(test, "id", ""), getattr(test, "attr", ""))
