"""The grid language: rows times grid times zip, one factor at a time round each, minus exclude.

Order: every row is merged over what `for_method` says of its method, and that over `base`; `grid`
(product) and `zip` (in step) multiply each row; `ablate` adds, round each of these, one point per
factor and value; lists of `nfe` and `snapshots` make one point each; `include` adds its own;
`exclude` removes, seed by seed. Points keep the marks of what they were merged from.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from distillbench.api.registry import METHODS
from distillbench.experiment.bounds import check_cell, check_size
from distillbench.experiment.schema import CellConfig, Experiment
from distillbench.experiment.select import Fields, drafted, matches, refusal
from distillbench.files.explain import validated
from distillbench.files.marks import (
    MapNode,
    Mark,
    Problems,
    SeqNode,
    did_you_mean,
    merge,
    set_path,
)
from distillbench.files.renamed import former_keys

__all__ = ["Point", "expand"]

_NOT_IN_LABELS = frozenset({"method", "backbone", "nfe", "snapshots", "label", "group"})


@dataclass(frozen=True)
class Point:
    """One row of the grid, all its seeds.

    Attributes:
        tree: everything merged, as written, with marks.
        config: the same, validated; its `nfe` has one entry and its `snapshots` at most one.
        seeds: run seeds left after `exclude`.
        varied: grid, zip and ablate values that made it, path -> value.
        centre: False for the points `ablate` put round another.
        named: the label is the author's own words, and wants no values added.
    """

    tree: MapNode
    config: CellConfig
    seeds: tuple[int, ...]
    varied: Mapping[str, Any] = field(default_factory=dict)
    centre: bool = True
    named: bool = False

    @property
    def nfe(self) -> int:
        """Network evaluations per sample."""
        return self.config.nfe[0]

    @property
    def updates(self) -> int | None:
        """Student updates behind its snapshot; None at the end of its training."""
        snapshots = self.config.snapshots
        return snapshots[0] if snapshots and snapshots[0] != self.config.train.updates else None

    def whole(self) -> Point:
        """The same row at the end of its training."""
        return replace(self, config=self.config.model_copy(update={"snapshots": []}))

    def unlinked(self) -> Point:
        """The same row without the other runs it starts from."""
        fields = {"teacher": "", "init": "", "snapshots": []}
        return replace(self, config=self.config.model_copy(update=fields))

    @property
    def suffix(self) -> str:
        """What tells it from other points of its row, such as `eta=0.5`; "" for nothing."""
        if self.named:
            return ""
        shown = {k: v for k, v in self.varied.items() if k not in _NOT_IN_LABELS}
        return ", ".join(f"{k.rpartition('.')[2]}={_short(v)}" for k, v in shown.items())


@dataclass(frozen=True)
class _Draft:
    """A point before validation."""

    tree: MapNode
    varied: Mapping[str, Any] = field(default_factory=dict)
    centre: bool = True
    named: bool = False

    def with_value(self, path: str, value: Any, mark: Mark) -> _Draft:
        parts = path.split(".")
        here: Any = self.tree
        for part in parts:
            here = here.get(part) if isinstance(here, dict) else None
        tree = set_path(self.tree, parts, merge(here, value), mark)
        return _Draft(tree, {**self.varied, path: value}, self.centre, self.named)

    def with_overlay(self, factor: str, overlay: MapNode) -> _Draft:
        value = overlay.get("label") or _short(overlay)
        tree = merge(self.tree, overlay)
        return _Draft(tree, {**self.varied, factor: value}, self.centre, "label" in overlay)


def expand(experiment: Experiment, problems: Problems, notes: list[str]) -> list[Point]:
    """All points in row order. What is impossible goes to `problems`, what is odd to `notes`."""
    tree = experiment.tree
    _check_methods(tree, problems, notes)
    rows = [merged(tree, row) for row in tree.get("rows") or [MapNode(mark=tree.mark)]]
    extra = [merged(tree, row) for row in tree.get("include") or []]
    check_size(experiment, rows, extra, problems)
    drafts: list[_Draft] = []
    for centre in (c for row in rows for c in _multiply(_Draft(row), tree, problems)):
        drafts += [centre, *_ablated(centre, tree, problems)]
    drafts += map(_Draft, extra)
    for key in ("nfe", "snapshots"):
        drafts = [single for draft in drafts for single in _each(draft, key)]
    kept = _excluded(drafts, experiment, problems, notes)
    points = []
    for draft, seeds in kept:
        config = validated(CellConfig, draft.tree, problems, owner="a row")
        if config is not None:
            check_cell(config, draft.tree, experiment.limits, problems)
            points.append(Point(draft.tree, config, seeds, draft.varied, draft.centre, draft.named))
    return points


# ---- base and methods -----------------------------------------------------------------------


def merged(tree: MapNode, row: MapNode) -> MapNode:
    """`base`, what `for_method` says of the row's method, and the row, each over the one before.

    Parts that are no mappings, which the schema reports, are left out.
    """
    base = _mapping(tree.get("base"))
    method = str(row.get("method", base.get("method")))
    ours = _mapping(_mapping(tree.get("for_method")).get(method))
    whole: MapNode = merge(merge(base, ours), row)
    return whole


def _mapping(node: Any) -> dict[str, Any]:
    return node if isinstance(node, dict) else MapNode()


def _check_methods(tree: MapNode, problems: Problems, notes: list[str]) -> None:
    given = tree.get("for_method") or MapNode()
    rows = [*(tree.get("rows") or []), *(tree.get("include") or []), tree.get("base") or {}]
    used = {row.get("method") for row in rows}
    for name in given:
        if name not in METHODS.names():
            known = METHODS.names()
            what = f"unknown method {name!r}; known methods: {', '.join(known)}."
            problems.add(_mark_of(given, name), what + did_you_mean(name, known))
        elif name not in used:
            notes.append(f"{_mark_of(given, name).prefix}no row uses method {name}")
        if "method" in (given[name] or {}):
            problems.add(_mark_of(given[name], "method"), "for_method cannot change the method")
    for part in ("grid", "zip", "ablate") if given else ():
        varied = tree.get(part) or MapNode()
        overlays = [v for values in varied.values() for v in values if isinstance(v, dict)]
        for place in (varied, *(v for v in overlays if part == "ablate")):
            if "method" in place:
                what = f"for_method does not reach a method from {part}; list the methods as rows"
                problems.add(_mark_of(place, "method"), what)


# ---- grid, zip, ablate ----------------------------------------------------------------------


def _multiply(draft: _Draft, tree: MapNode, problems: Problems) -> Iterator[_Draft]:
    grid = tree.get("grid") or MapNode()
    axes = [[(path, v, m) for v, m in _marked(grid, path)] for path in grid]
    in_step = _zipped(tree, problems)
    for values in itertools.product(*axes):
        for zipped in in_step:
            point = draft
            for path, value, mark in (*values, *zipped):
                point = _placed(point, path, value, mark, problems)
            yield point


def _zipped(tree: MapNode, problems: Problems) -> list[tuple[tuple[str, Any, Mark], ...]]:
    paired = tree.get("zip")
    if not paired:
        return [()]
    lengths = {path: len(values) for path, values in paired.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{path} has {n}" for path, n in lengths.items())
        problems.add(_mark_of(tree, "zip"), f"lists walked in step must be equally long: {shown}")
        return [()]
    columns = [[(path, v, m) for v, m in _marked(paired, path)] for path in paired]
    return list(zip(*columns, strict=True))


def _ablated(centre: _Draft, tree: MapNode, problems: Problems) -> Iterator[_Draft]:
    factors = tree.get("ablate") or MapNode()
    around = _Draft(centre.tree, centre.varied, centre=False)
    for factor in factors:
        head = factor.split(".")[0]
        is_path = head in CellConfig.model_fields or head in former_keys(CellConfig)
        for value, mark in _marked(factors, factor):
            if is_path:
                yield _placed(around, factor, value, mark, problems)
            elif isinstance(value, dict):
                yield around.with_overlay(
                    factor, value if isinstance(value, MapNode) else MapNode(value)
                )
            else:
                guess = did_you_mean(factor.split(".")[0], CellConfig.model_fields)
                problems.add(
                    mark,
                    f"{factor!r} is no path into a row, so its values must be overlays such as "
                    f"{{params: {{...}}}}, got {value!r}.{guess}",
                )


def _placed(draft: _Draft, path: str, value: Any, mark: Mark, problems: Problems) -> _Draft:
    try:
        return draft.with_value(path, value, mark)
    except KeyError as error:
        problems.add(mark, f"{path}: {error.args[0]}")
        return draft


def _marked(parent: Mapping[str, Any], key: str) -> list[tuple[Any, Mark]]:
    values = parent[key]
    marks = values.marks if isinstance(values, SeqNode) else [_mark_of(parent, key)] * len(values)
    return list(zip(values, marks, strict=True))


def _mark_of(parent: Mapping[str, Any], key: str) -> Mark:
    return parent.marks.get(key, Mark()) if isinstance(parent, MapNode) else Mark()


def _each(draft: _Draft, key: str) -> Iterator[_Draft]:
    listed = draft.tree.get(key)
    if not isinstance(listed, list) or not listed:
        yield draft
        return
    for value, mark in _marked(draft.tree, key):
        tree = set_path(draft.tree, (key,), value, mark)
        yield _Draft(tree, draft.varied, draft.centre, draft.named)


# ---- exclude --------------------------------------------------------------------------------


def _excluded(
    drafts: Sequence[_Draft], experiment: Experiment, problems: Problems, notes: list[str]
) -> list[tuple[_Draft, tuple[int, ...]]]:
    rules: list[Any] = experiment.tree.get("exclude") or []
    seeds = tuple(dict.fromkeys(experiment.seeds))
    used = [False] * len(rules)
    views: list[Fields] = []
    kept = []
    for draft in drafts:
        view = drafted(draft.tree, draft.varied) if rules else Fields({})
        runs = [view.with_field("seed", seed) for seed in seeds]
        views += runs[:1]
        hits = [[i for i, rule in enumerate(rules) if matches(run, rule.items())] for run in runs]
        for index in itertools.chain(*hits):
            used[index] = True
        left = tuple(seed for seed, hit in itertools.zip_longest(seeds, hits) if not hit)
        if left:
            kept.append((draft, left))
    for rule, hit in zip(rules, used, strict=True):
        _check_rule(rule, hit, views, problems, notes)
    if drafts and not kept:
        problems.add(_mark_of(experiment.tree, "exclude"), "excludes every row; nothing is left")
    return kept


def _check_rule(
    rule: Any, hit: bool, views: Sequence[Fields], problems: Problems, notes: list[str]
) -> None:
    wrong = {name: refusal(views, name, value) for name, value in rule.items()}
    for name in filter(wrong.get, wrong):
        problems.add(_mark_of(rule, name), wrong[name])
    if not hit and not any(wrong.values()):
        mark = getattr(rule, "mark", Mark())
        notes.append(f"{mark.prefix}excludes nothing")


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(
            f"{key}={_short(v)}" if not isinstance(v, Mapping) else _short(v)
            for key, v in value.items()
        )
    if isinstance(value, list | tuple):
        return "/".join(map(_short, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
