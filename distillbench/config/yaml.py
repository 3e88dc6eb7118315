"""YAML 1.2 into plain data that remembers its lines.

The parser is ruamel.yaml's; scalars follow YAML 1.2's core schema (`1e-4` is a number, `on` and
`yes` are text), keys are always text, and duplicate keys are errors.
"""

from __future__ import annotations

import math
import re
from pathlib import Path as FilePath
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from distillbench.config.marks import MapNode, Mark, Path, Problems, SeqNode, path_text
from distillbench.errors import BadInput

__all__ = ["read_value", "read_yaml", "scalar"]

_CONSTANTS: dict[str, Any] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"([-+]?)\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


def read_yaml(path: FilePath, problems: Problems) -> MapNode:
    """Read a file whose top level is a mapping; structural errors go to `problems`.

    Raises:
        BadInput: the file cannot be read, or is not YAML at all (with line and column).
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise BadInput(f"{path}: cannot be read: {reason}") from error
    root = _compose(text, str(path))
    if not isinstance(root, MappingNode):
        raise BadInput(f"{path}:1:1: an experiment is a mapping of keys such as name and rows")
    tree = _Reader(str(path), problems).value(root, ())
    assert isinstance(tree, MapNode)
    return tree


def read_value(text: str, mark: Mark) -> Any:
    """The value of a `--set` override; all of it is marked as coming from there.

    Raises:
        BadInput: the text is not YAML.
    """
    problems = Problems()
    node = _compose(text, mark.source)
    value = None if node is None else _Reader(mark.source, problems, mark.path).value(node, ())
    problems.raise_if_any()
    return value


def _compose(text: str, source: str) -> Node | None:
    try:
        node: Node | None = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        raise BadInput(f"{where}: not valid YAML: {error.problem or error.context}") from error
    except YAMLError as error:
        raise BadInput(f"{source}: not valid YAML: {str(error).splitlines()[0]}") from error
    return node


def scalar(text: str) -> Any:
    """A plain scalar by YAML 1.2's core schema."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        return int(text, 0) if text[:2] in {"0o", "0x"} else int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    special = _SPECIAL.fullmatch(text)
    if special:
        return float(f"{special[1] or ''}{'inf' if special[2] else 'nan'}")
    return text


class _Reader:
    """Turns nodes into data with marks."""

    def __init__(self, source: str, problems: Problems, option: str = "") -> None:
        self.source = source
        self.problems = problems
        self.option = option
        self.open: list[Node] = []

    def mark(self, node: Node, path: Path) -> Mark:
        if self.option:
            return Mark(self.source, path=path_text((self.option, *path)))
        start = node.start_mark
        return Mark(self.source, start.line + 1, start.column + 1, path_text(path))

    def value(self, node: Node, path: Path) -> Any:
        """The data of a node; an alias inside its own anchor is a problem."""
        if any(node is other for other in self.open):
            self.problems.add(self.mark(node, path), "an alias may not contain itself")
            return None
        if isinstance(node, ScalarNode):
            return self.scalar(node, path)
        self.open.append(node)
        try:
            if isinstance(node, MappingNode):
                return self.mapping(node, path)
            assert isinstance(node, SequenceNode)
            return self.sequence(node, path)
        finally:
            self.open.pop()

    def scalar(self, node: ScalarNode, path: Path) -> Any:
        if str(node.tag).startswith("!") or "python" in str(node.tag):
            self.problems.add(self.mark(node, path), f"tags such as {node.tag} are not supported")
        value = str(node.value) if node.style is not None else scalar(str(node.value))
        if isinstance(value, float) and not math.isfinite(value):
            self.problems.add(self.mark(node, path), f"{node.value} is not a finite number")
        return value

    def sequence(self, node: SequenceNode, path: Path) -> SeqNode:
        result = SeqNode(mark=self.mark(node, path))
        for index, item in enumerate(node.value):
            result.append(self.value(item, (*path, index)))
            result.marks.append(self.mark(item, (*path, index)))
        return result

    def mapping(self, node: MappingNode, path: Path) -> MapNode:
        result = MapNode(mark=self.mark(node, path))
        for key_node, item in node.value:
            if not isinstance(key_node, ScalarNode):
                self.problems.add(self.mark(key_node, path), "a key must be plain text")
                continue
            key = str(key_node.value)
            mark = self.mark(key_node, (*path, key))
            if key in result:
                first = result.marks[key]
                self.problems.add(mark, f"duplicate key; first given on line {first.line}")
                continue
            result.put(key, self.value(item, (*path, key)), mark)
        return result
