"""The one rule for names: what becomes a file, a column or a key is short, plain and unique."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from pydantic import AfterValidator

from distillbench.files.limits import over
from distillbench.files.marks import MapNode, Mark, Problems, locate

__all__ = ["Label", "Name", "check_names", "label_problem", "name_problem"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DEVICES = frozenset(
    {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}
)
_FOLDERS = frozenset({"store", "figures"})
_FILES = frozenset({"claims", "cost", "log", "plan", "report", *_FOLDERS})
"""What the results folder of an experiment holds beside its tables."""
_FIELDS = frozenset(
    {"label", "group", "method", "title", "backbone", "nfe", "updates", "seed", "seeds",
     "guidance_scale", "varied", "params", "tags"}
)  # fmt: skip
"""Words that columns and selections already have a meaning for."""
RESERVED = {
    "an experiment": frozenset({"readme.md", *_FOLDERS}),
    "a table": _FILES,
    "a metric": _FIELDS,
    "a tag": _FIELDS,
}
_ENDINGS = {"a table": (".body",), "a metric": ("_paper", "_stderr", "_n")}
"""What we put behind a name to make another of it."""
LABEL = 200
"""Characters of a label, of a group, and of a tag's text."""


def name_problem(name: str, kind: str) -> str:
    """What is wrong with the name of `kind` ("a table", "a metric", ...), "" for nothing."""
    if not _NAME.fullmatch(name):
        return (
            f"{name[:80]!r} cannot name {kind}; a name is 1 to 64 of A-Z a-z 0-9 . _ - and "
            "begins with a letter or digit"
        )
    folded = name.casefold()
    if folded.partition(".")[0] in _DEVICES or name.endswith("."):
        return f"{name!r} cannot name {kind}: not every system can have a file of that name"
    if folded in RESERVED.get(kind, frozenset()):
        taken = ", ".join(sorted(RESERVED[kind]))
        return f"{name!r} cannot name {kind}: these are our own: {taken}"
    if folded.endswith(_ENDINGS.get(kind, ())):
        return f"{name!r} cannot name {kind}: that ending is our own; choose another"
    return ""


def label_problem(text: str) -> str:
    """What is wrong with a label, which may be any one line of text; "" for nothing."""
    if "\n" in text or "\t" in text:
        return f"{text[:60]!r} must be one line of text, without line ends and tabs"
    if len(text) > LABEL:
        return over("a label's length", len(text), LABEL, "shorten it")
    return ""


def _refuse(problem: str) -> None:
    if problem:
        raise ValueError(problem)


def _named(kind: str) -> Any:
    def check(name: str) -> str:
        _refuse(name_problem(name, kind))
        return name

    return AfterValidator(check)


def _labelled(text: str) -> str:
    _refuse(label_problem(text))
    return text


Label = Annotated[str, AfterValidator(_labelled)]
"""One line of any text."""


class Name:
    """Annotated types of names, by what they name."""

    experiment = Annotated[str, _named("an experiment")]
    table = Annotated[str, _named("a table")]
    figure = Annotated[str, _named("a figure")]
    metric = Annotated[str, _named("a metric")]
    backbone = Annotated[str, _named("a backbone")]
    tag = Annotated[str, _named("a tag")]


def check_names(tree: MapNode, problems: Problems) -> None:
    """Names that share a folder, a column or a key differ by more than the case of letters.

    Profiles, whose mapping is gone once one of them is merged, are held to the rule here too.
    """
    profiles = tree.get("profiles")
    for profile, mark in _keys(profiles):
        if what := name_problem(profile, "a profile"):
            problems.add(mark, what)
    for kind, found in (
        ("tables", _listed(tree, "tables", "name")),
        ("figures", _listed(tree, "figures", "name")),
        ("metrics", _listed(tree, "metrics", "id", "use")),
        ("backbones", _keys(tree.get("backbones"))),
        ("profiles", _keys(profiles)),
    ):
        _unique(kind, found, problems)


def _unique(kind: str, found: Iterable[tuple[str, Mark]], problems: Problems) -> None:
    seen: dict[str, str] = {}
    for name, mark in found:
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            what = f"{kind} {other!r} and {name!r} differ by case alone; rename one"
            problems.add(mark, what)


def _keys(node: Any) -> Iterator[tuple[str, Mark]]:
    if isinstance(node, MapNode):
        for key in node:
            yield key, node.marks[key]


def _listed(tree: MapNode, kind: str, *keys: str) -> Iterator[tuple[str, Mark]]:
    items = tree.get(kind)
    for index, item in enumerate(items if isinstance(items, list) else ()):
        key = next((k for k in keys if isinstance(item, dict) and item.get(k)), None)
        name = item[key] if key else item
        if isinstance(name, str):
            yield name, locate(tree, (kind, index, *([key] if key else [])))[0]
