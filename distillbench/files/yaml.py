"""YAML 1.2 into plain data that remembers its lines.

The parser is ruamel.yaml's; scalars follow YAML 1.2's core schema (`1e-4` is a number, `on` and
`yes` are text), keys are always text, duplicate keys are errors, tags are refused. Merge keys
(`<<: *base`) work as in YAML 1.1: what a mapping says itself wins over what it merges, and an
earlier merged mapping over a later one. What is read is bounded (`limits`) as it is read.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from distillbench.errors import BadInput
from distillbench.files.limits import (
    FILE_BYTES,
    NESTING,
    NODES,
    number_problem,
    over,
    text_problem,
)
from distillbench.files.marks import MapNode, Mark, Path, Problems, SeqNode, path_text

__all__ = ["read_value", "read_yaml", "scalar"]

_CONSTANTS: dict[str, Any] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"([-+]?)\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_MERGE = "<<"


def read_yaml(path: FilePath, problems: Problems) -> MapNode:
    """Read a file whose top level is a mapping; structural errors go to `problems`.

    Raises:
        BadInput: the file cannot be read, is too large, or is not YAML at all (with its place).
    """
    tree = _Reader(str(path), problems).document(_text_of(path))
    if not isinstance(tree, MapNode):
        raise BadInput(f"{path}:1:1: an experiment is a mapping of keys such as name and rows")
    return tree


def read_value(text: str, mark: Mark) -> Any:
    """The value of a `--set` override; all of it is marked as coming from there.

    Raises:
        BadInput: the text is not YAML.
    """
    problems = Problems()
    value = _Reader(mark.source, problems, mark.path).document(text)
    problems.raise_if_any()
    return value


def _text_of(path: FilePath) -> str:
    try:
        status = path.stat()
        # A fifo or a device would be waited for, or read, for ever.
        if not stat.S_ISREG(status.st_mode):
            raise BadInput(f"{path}: not a regular file; name an experiment file (YAML)")
        if status.st_size > FILE_BYTES:
            what = over("bytes of the file:", status.st_size, FILE_BYTES, "split the experiment")
            raise BadInput(f"{path}:1:1: {what}")
        return path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise BadInput(f"{path}: cannot be read: {reason}") from error


def scalar(text: str) -> Any:
    """A plain scalar by YAML 1.2's core schema; what has too many digits for an int is a float."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text) and len(text) <= 64:
        return int(text, 0) if text[:2] in {"0o", "0x"} else int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    special = _SPECIAL.fullmatch(text)
    if special:
        return float(f"{special[1] or ''}{'inf' if special[2] else 'nan'}")
    return text


@dataclass(frozen=True)
class _Anchor:
    """The value of a finished anchor, with the entries it has; None while it is still open."""

    value: Any
    size: int


class _Reader:
    """Turns the parser's events into data with marks."""

    def __init__(self, source: str, problems: Problems, option: str = "") -> None:
        self.source = source
        self.problems = problems
        self.option = option
        self.anchors: dict[str, _Anchor | None] = {}
        self.size = 0
        self.depth = 0
        self.events: Iterator[Any] = iter(())

    # ---- the document -------------------------------------------------------------------

    def document(self, text: str) -> Any:
        """The one document of a text; None when it is empty. Raises BadInput with the place."""
        if len(text) > FILE_BYTES:
            raise BadInput(f"{self.source}: {over('characters:', len(text), FILE_BYTES, 'cut it')}")
        self.events = iter(YAML(typ="safe", pure=True).parse(text))
        try:
            next(self.events)
            start = next(self.events)
            value = self.value(next(self.events), ()) if _is(start, "DocumentStart") else None
            rest = [e for e in self.events if _is(e, "DocumentStart")]
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            where = f"{self.source}:{mark.line + 1}:{mark.column + 1}" if mark else self.source
            raise BadInput(f"{where}: not valid YAML: {error.problem or error.context}") from error
        except YAMLError as error:
            what = str(error).splitlines()[0]
            raise BadInput(f"{self.source}: not valid YAML: {what}") from error
        if rest:
            raise self.fatal(rest[0], "a second document begins here; give each a file")
        return value

    def mark(self, event: Any, path: Path) -> Mark:
        if self.option:
            return Mark(self.source, path=path_text((self.option, *path)))
        start = event.start_mark
        return Mark(self.source, start.line + 1, start.column + 1, path_text(path))

    def fatal(self, event: Any, what: str, path: Path = ()) -> BadInput:
        """A problem that ends the reading, told after those found before it."""
        self.problems.add(self.mark(event, path), what)
        return BadInput("\n".join(self.problems.lines))

    def count(self, event: Any, entries: int, path: Path) -> None:
        self.size += entries
        if self.size > NODES:
            what = over("entries of the file:", self.size, NODES, "use fewer aliases or entries")
            raise self.fatal(event, what, path)

    # ---- values -------------------------------------------------------------------------

    def value(self, event: Any, path: Path) -> Any:
        """The data that begins with an event; an alias inside its own anchor is a problem."""
        if _is(event, "Alias"):
            return self.alias(event, path)
        self.count(event, 1, path)
        if event.tag is not None:
            what = f"tags such as {event.tag} are not supported; quote text, leave numbers bare"
            self.problems.add(self.mark(event, path), what)
        if event.anchor:
            self.anchors[event.anchor] = None
        before = self.size
        value = self.scalar(event, path) if _is(event, "Scalar") else self.inside(event, path)
        if event.anchor:
            self.anchors[event.anchor] = _Anchor(value, self.size - before + 1)
        return value

    def inside(self, event: Any, path: Path) -> MapNode | SeqNode:
        if self.depth == NESTING:
            raise self.fatal(event, f"nested deeper than {NESTING} levels", path)
        self.depth += 1
        mapping = _is(event, "MappingStart")
        value = self.mapping(event, path) if mapping else self.sequence(event, path)
        self.depth -= 1
        return value

    def alias(self, event: Any, path: Path) -> Any:
        if event.anchor not in self.anchors:
            raise self.fatal(event, f"not valid YAML: found undefined alias {event.anchor!r}", path)
        anchor = self.anchors[event.anchor]
        if anchor is None:
            self.problems.add(self.mark(event, path), "an alias may not contain itself")
            return None
        self.count(event, anchor.size, path)
        return self.moved(anchor.value, path)

    def scalar(self, event: Any, path: Path) -> Any:
        value = str(event.value) if event.style is not None else scalar(str(event.value))
        what = ""
        if isinstance(value, str):
            what = text_problem(value)
        elif isinstance(value, int | float):
            what = number_problem(value, str(event.value))
        if what:
            self.problems.add(self.mark(event, path), what)
        return value

    def sequence(self, event: Any, path: Path) -> SeqNode:
        result = SeqNode(mark=self.mark(event, path))
        while not _is(item := next(self.events), "SequenceEnd"):
            place = (*path, len(result))
            result.append(self.value(item, place))
            result.marks.append(self.mark(item, place))
        return result

    def mapping(self, event: Any, path: Path) -> MapNode:
        own, merged = MapNode(mark=self.mark(event, path)), MapNode()
        while not _is(key_event := next(self.events), "MappingEnd"):
            if not _is(key_event, "Scalar"):
                self.problems.add(self.mark(key_event, path), "a key must be plain text")
                self.value(key_event, path)
                self.value(next(self.events), path)
                continue
            key = str(self.key(key_event, path))
            mark = self.mark(key_event, (*path, key))
            merges = key == _MERGE and key_event.style is None
            value = self.value(next(self.events), path if merges else (*path, key))
            if first := (merged.marks if merges else own.marks).get(key):
                self.problems.add(mark, f"duplicate key; first given on line {first.line}")
            elif merges:
                merged = self.moved(self.merged(value, mark), path)
                merged.marks[key] = mark
            else:
                own.put(key, value, mark)
        return _over(merged, own)

    def key(self, event: Any, path: Path) -> str:
        self.count(event, 1, path)
        key = str(event.value)
        if event.tag is not None or event.anchor:
            self.problems.add(self.mark(event, path), "a key takes no tag and no anchor")
        if what := text_problem(key) or ("must be one line" if {"\n", "\t"} & {*key} else ""):
            self.problems.add(self.mark(event, path), f"key {key[:60]!r}: {what}")
        return key

    def merged(self, value: Any, mark: Mark) -> MapNode:
        """What a merge key brings: a mapping, or several of which the earlier wins."""
        parts = value if isinstance(value, SeqNode) else [value]
        result = MapNode()
        for part in parts:
            if not isinstance(part, MapNode):
                self.problems.add(mark, "a merge key takes a mapping or a list of mappings")
                continue
            for key, item in part.items():
                if key not in result:
                    result.put(key, item, part.marks[key])
        return result

    def moved(self, value: Any, path: Path) -> Any:
        """A copy of an anchor's value whose marks have the paths of its new place."""
        if isinstance(value, MapNode):
            copy = MapNode(mark=self.moved_mark(value.mark, path))
            for key, item in value.items():
                place = (*path, key)
                copy.put(key, self.moved(item, place), self.moved_mark(value.marks[key], place))
            return copy
        if isinstance(value, SeqNode):
            items = SeqNode(mark=self.moved_mark(value.mark, path))
            for index, (item, mark) in enumerate(zip(value, value.marks, strict=True)):
                items.append(self.moved(item, (*path, index)))
                items.marks.append(self.moved_mark(mark, (*path, index)))
            return items
        return value

    def moved_mark(self, mark: Mark, path: Path) -> Mark:
        whole = (self.option, *path) if self.option else path
        return Mark(mark.source, mark.line, mark.col, path_text(whole))


def _is(event: Any, kind: str) -> bool:
    return type(event).__name__ == f"{kind}Event"


def _over(merged: MapNode, own: MapNode) -> MapNode:
    """A mapping over what it merges, the merged keys first."""
    result = MapNode(mark=own.mark)
    for part in (merged, own):
        for key, value in part.items():
            result.put(key, value, part.marks[key])
    return result
