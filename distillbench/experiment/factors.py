"""What varies a row: `grid` (product), `zip` (in step) and `ablate` (one factor at a time).

They stand in the file for every row and in a row for that one, where they are merged over the
file's. A draft keeps its row as written and the changes in their order: what `for_method` says is
looked up for the method that they end at.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from distillbench.experiment.schema import CellConfig
from distillbench.files.marks import MapNode, Mark, Problems, SeqNode, did_you_mean, merge, set_path
from distillbench.files.renamed import former_keys

__all__ = [
    "FACTORS", "Change", "Draft", "factors_of", "mark_of", "marked", "merged", "methods_of",
    "short", "varied", "without_factors",
]  # fmt: skip

FACTORS = ("grid", "zip", "ablate")


@dataclass(frozen=True)
class Change:
    """A value at a dotted path into a row; an overlay over all of it where there is no path."""

    path: str | None
    value: Any
    mark: Mark

    def onto(self, tree: MapNode, problems: Problems) -> MapNode:
        """The row after it; what its path cannot reach is noted."""
        if self.path is None:
            return merge(tree, self.value)  # type: ignore[no-any-return]
        parts = self.path.split(".")
        try:
            changed: MapNode = set_path(tree, parts, merge(_at(tree, parts), self.value), self.mark)
        except KeyError as error:
            problems.add(self.mark, f"{self.path}: {error.args[0]}")
            return tree
        return changed

    @property
    def method(self) -> Any:
        """The method it sets, None where it sets none."""
        if self.path == "method":
            return self.value
        overlay = self.value if self.path is None and isinstance(self.value, dict) else {}
        return overlay.get("method")


@dataclass(frozen=True)
class Draft:
    """A point before validation.

    Attributes:
        row: the row as written; once `settled`, everything merged.
        changes: what is changed in it, in order.
        varied: grid, zip and ablate values that made it, path -> value.
        told: those of them that its label, the author's own words, stands for.
        centre: False for the points `ablate` put round another under that one's name.
    """

    row: MapNode
    changes: tuple[Change, ...] = ()
    varied: Mapping[str, Any] = field(default_factory=dict)
    told: frozenset[str] = frozenset()
    centre: bool = True

    def at(self, *changes: Change) -> Draft:
        """With values at paths, walked in step: a label among them stands for all of them."""
        values = {change.path: change.value for change in changes if change.path is not None}
        told = frozenset(values) if "label" in values else frozenset()
        return replace(
            self, changes=self.changes + changes, varied={**self.varied, **values},
            told=self.told - values.keys() | told,
        )  # fmt: skip

    def under(self, overlay: MapNode, mark: Mark, factor: str) -> Draft:
        """With an overlay; one with a label is a centre of its own, told by that label."""
        over = {p: _at(overlay, p.split(".")) for p in self.varied if _has(overlay, p.split("."))}
        named = "label" in overlay
        label = overlay.get("label")
        mine = {factor: label or short(overlay)} if factor != label else {}
        return replace(
            self, changes=(*self.changes, Change(None, overlay, mark)),
            varied={**self.varied, **over, **mine},
            told=self.told | {*over, *mine} if named else self.told - over.keys(), centre=named,
        )  # fmt: skip

    def settled(self, tree: MapNode, problems: Problems) -> Draft:
        """With everything merged: base, what `for_method` says of its method, row, changes."""
        row = self.row
        for change in self.changes:
            if change.method is not None:
                row = set_path(row, ("method",), change.method, change.mark)
        row = merged(tree, row)
        for change in self.changes:
            row = change.onto(row, problems)
        return replace(self, row=row, changes=())


def merged(tree: MapNode, row: MapNode) -> MapNode:
    """`base`, what `for_method` says of the row's method, and the row, each over the one before.

    Parts that are no mappings, which the schema reports, are left out.
    """
    base = _mapping(tree.get("base"))
    method = str(row.get("method", base.get("method")))
    ours = _mapping(_mapping(tree.get("for_method")).get(method))
    whole: MapNode = merge(merge(base, ours), row)
    return whole


def factors_of(tree: MapNode, row: MapNode) -> MapNode:
    """The three keys as they hold for a row: its own merged over the file's."""
    whole: MapNode = merge(_part(tree, own=True), _part(row, own=True))
    return whole


def without_factors(row: MapNode) -> MapNode:
    """A row's settings alone."""
    return _part(row, own=False)


def methods_of(factors: MapNode) -> list[str]:
    """Methods that rows may be changed to."""
    changes = [*_axis(factors, "grid", "method"), *_axis(factors, "zip", "method")]
    methods = [c.method for c in (*changes, *(c for _, c in _ablations(factors)))]
    return list(dict.fromkeys(str(m) for m in methods if m is not None))


def varied(row: MapNode, factors: MapNode, problems: Problems) -> Iterator[Draft]:
    """A row's points, each followed by those that `ablate` puts round it."""
    grid = [_axis(factors, "grid", path) for path in factors.get("grid") or ()]
    steps = _zipped(factors, problems)
    ablations = [a for a in _ablations(factors) if _fits(*a, problems)]
    for values in itertools.product(*grid):
        for step in steps:
            centre = Draft(row)
            for value in values:
                centre = centre.at(value)
            centre = centre.at(*step)
            yield centre
            around = replace(centre, centre=False)
            for factor, change in ablations:
                yield _ablated(around, factor, change)


def _axis(factors: MapNode, kind: str, path: str) -> list[Change]:
    axes = factors.get(kind) or MapNode()
    return [Change(path, value, mark) for value, mark in marked(axes, path)] if path in axes else []


def _zipped(factors: MapNode, problems: Problems) -> list[tuple[Change, ...]]:
    columns = {path: _axis(factors, "zip", path) for path in factors.get("zip") or ()}
    if len({len(values) for values in columns.values()}) > 1:
        shown = ", ".join(f"{path} has {len(values)}" for path, values in columns.items())
        what = f"lists walked in step must be equally long: {shown}"
        problems.add(mark_of(factors, "zip"), what)
        return [()]
    return list(zip(*columns.values(), strict=True)) or [()]


# ---- ablate ---------------------------------------------------------------------------------


def _ablations(factors: MapNode) -> list[tuple[str, Change]]:
    """Each factor with one change; an overlay that stands alone is labelled by its factor."""
    ablate = factors.get("ablate") or MapNode()
    found = []
    for factor, values in ablate.items():
        if isinstance(values, dict):
            mark = mark_of(ablate, factor)
            label = MapNode()
            label.put("label", factor, mark)
            found.append((factor, Change(None, merge(label, values), mark)))
        else:
            path = factor if _is_path(factor) else None
            found += [(factor, Change(path, *value)) for value in marked(ablate, factor)]
    return found


def _is_path(factor: str) -> bool:
    head = factor.split(".")[0]
    return head in CellConfig.model_fields or head in former_keys(CellConfig)


def _fits(factor: str, change: Change, problems: Problems) -> bool:
    if change.path is not None:
        return True
    what = ""
    if not isinstance(change.value, dict):
        guess = did_you_mean(factor.split(".")[0], CellConfig.model_fields)
        what = (f"{factor!r} is no path into a row, so its values must be overlays such as "
                f"{{params: {{...}}}}, got {change.value!r}.{guess}")  # fmt: skip
    elif _is_path(factor):
        what = (f"{factor!r} is a path into a row, so a list of its values is needed, or another "
                "label for this overlay")  # fmt: skip
    if what:
        problems.add(change.mark, what)
    return not what


def _ablated(around: Draft, factor: str, change: Change) -> Draft:
    if change.path is not None:
        return around.at(change)
    overlay = change.value if isinstance(change.value, MapNode) else MapNode(change.value)
    return around.under(overlay, change.mark, factor)


# ---- nodes ----------------------------------------------------------------------------------


def _part(node: MapNode, *, own: bool) -> MapNode:
    part = MapNode({k: v for k, v in node.items() if (k in FACTORS) is own})
    part.mark = getattr(node, "mark", part.mark)
    part.marks = {k: m for k, m in getattr(node, "marks", {}).items() if k in part}
    return part


def _at(tree: Any, parts: list[str]) -> Any:
    for part in parts:
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def _has(tree: Any, parts: list[str]) -> bool:
    return parts[-1] in (_at(tree, parts[:-1]) or ())


def _mapping(node: Any) -> dict[str, Any]:
    return node if isinstance(node, dict) else MapNode()


def marked(parent: Mapping[str, Any], key: str) -> list[tuple[Any, Mark]]:
    """The entries of a list with their places."""
    values = parent[key]
    marks = values.marks if isinstance(values, SeqNode) else [mark_of(parent, key)] * len(values)
    return list(zip(values, marks, strict=True))


def mark_of(parent: Mapping[str, Any], key: str) -> Mark:
    """The place of an entry."""
    return parent.marks.get(key, Mark()) if isinstance(parent, MapNode) else Mark()


def short(value: Any) -> str:
    """A value as a label shows it."""
    if isinstance(value, Mapping):
        return ", ".join(
            f"{key}={short(v)}" if not isinstance(v, Mapping) else short(v)
            for key, v in value.items()
        )
    if isinstance(value, list | tuple):
        return "/".join(map(short, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
