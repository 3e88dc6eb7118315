"""From rows to points: base, methods and rows merged, varied, and minus exclude.

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
from distillbench.experiment.factors import (
    FACTORS,
    Draft,
    factors_of,
    mark_of,
    marked,
    merged,
    methods_of,
    short,
    varied,
    without_factors,
)
from distillbench.experiment.schema import CellConfig, Experiment, RowConfig
from distillbench.experiment.select import Fields, drafted, matches, refusal
from distillbench.files.explain import validated
from distillbench.files.marks import MapNode, Mark, Problems, did_you_mean, set_path

__all__ = ["GridPoint", "expand"]

_NOT_IN_LABELS = frozenset(
    {"method", "backbone", "sample_on", "nfe", "snapshots", "label", "group"}
)


@dataclass(frozen=True)
class GridPoint:
    """One row of the grid, all its seeds.

    Attributes:
        tree: everything merged, as written, with marks.
        config: the same, validated; its `nfe` has one entry and its `snapshots` at most one.
        seeds: run seeds left after `exclude`.
        varied: grid, zip and ablate values that made it, path -> value.
        told: those of them that its label, the author's own words, stands for.
        centre: False for the points `ablate` put round another under that one's name.
    """

    tree: MapNode
    config: CellConfig
    seeds: tuple[int, ...]
    varied: Mapping[str, Any] = field(default_factory=dict)
    told: frozenset[str] = frozenset()
    centre: bool = True

    @property
    def nfe(self) -> int:
        """Network evaluations per sample."""
        return self.config.nfe[0]

    @property
    def updates(self) -> int | None:
        """Student updates behind its snapshot; None at the end of its training."""
        snapshots = self.config.snapshots
        return snapshots[0] if snapshots and snapshots[0] != self.config.train.updates else None

    def whole(self) -> GridPoint:
        """The same row at the end of its training."""
        return replace(self, config=self.config.model_copy(update={"snapshots": []}))

    def unlinked(self) -> GridPoint:
        """The same row without the other runs it starts from."""
        fields = {"teacher": "", "init": "", "snapshots": [], "sample_on": "", "samples": ""}
        return replace(self, config=self.config.model_copy(update=fields))

    @property
    def untold(self) -> dict[str, Any]:
        """What varies and its label does not stand for."""
        return {path: value for path, value in self.varied.items() if path not in self.told}

    @property
    def suffix(self) -> str:
        """What tells it from other points of its row, such as `eta=0.5`; "" for nothing."""
        shown = {k: v for k, v in self.untold.items() if k not in _NOT_IN_LABELS}
        return ", ".join(f"{k.rpartition('.')[2]}={short(v)}" for k, v in shown.items())


def expand(experiment: Experiment, problems: Problems, notes: list[str]) -> list[GridPoint]:
    """All points in row order. What is impossible goes to `problems`, what is odd to `notes`."""
    tree = experiment.tree
    rows = [*_rows(tree, problems)]
    check_size(experiment, [(_merged(tree, *row), row[1]) for row in rows], problems)
    drafts = [
        draft.settled(tree, problems)
        for row, factors in rows
        for draft in varied(row, factors, problems)
    ]
    _check_methods(tree, drafts, problems, notes)
    for key in ("nfe", "snapshots"):
        drafts = [single for draft in drafts for single in _each(draft, key)]
    kept = _excluded(drafts, experiment, problems, notes)
    points = []
    for draft, seeds in kept:
        config = validated(CellConfig, draft.row, problems, owner="a row")
        if config is not None:
            check_cell(config, draft.row, experiment.limits, problems)
            points.append(
                GridPoint(draft.row, config, seeds, draft.varied, draft.told, draft.centre)
            )
    return points


def _rows(tree: MapNode, problems: Problems) -> Iterator[tuple[MapNode, MapNode]]:
    """Each row's settings and what varies it; an entry of `include` is varied by its own alone."""
    for row in tree.get("rows") or [MapNode(mark=tree.mark)]:
        yield from _row(tree, row, problems)
    for row in tree.get("include") or ():
        yield from _row(MapNode(), row, problems)


def _row(tree: MapNode, row: MapNode, problems: Problems) -> Iterator[tuple[MapNode, MapNode]]:
    own = {key: row[key] for key in FACTORS if key in row}
    if not own or validated(RowConfig, row, problems, owner="a row"):
        yield without_factors(row), factors_of(tree, row)


# ---- base and methods -----------------------------------------------------------------------


def _merged(tree: MapNode, row: MapNode, factors: MapNode) -> list[MapNode]:
    """What a row is without its changes, for its own method and for those that it is changed to."""
    return [merged(tree, row), *(merged(tree, MapNode({**row, "method": m})) for m in
                                 methods_of(factors))]  # fmt: skip


def _check_methods(
    tree: MapNode, drafts: Sequence[Draft], problems: Problems, notes: list[str]
) -> None:
    given = tree.get("for_method") or MapNode()
    used = {str(draft.row.get("method")) for draft in drafts}
    for name in given:
        if name not in METHODS.names():
            known = METHODS.names()
            what = f"unknown method {name!r}; known methods: {', '.join(known)}."
            problems.add(mark_of(given, name), what + did_you_mean(name, known))
        elif name not in used:
            notes.append(f"{mark_of(given, name).prefix}no row uses method {name}")
        if "method" in (given[name] or {}):
            problems.add(mark_of(given[name], "method"), "for_method cannot change the method")


def _each(draft: Draft, key: str) -> Iterator[Draft]:
    listed = draft.row.get(key)
    if not isinstance(listed, list) or not listed:
        yield draft
        return
    for value, mark in marked(draft.row, key):
        yield replace(draft, row=set_path(draft.row, (key,), value, mark))


# ---- exclude --------------------------------------------------------------------------------


def _excluded(
    drafts: Sequence[Draft], experiment: Experiment, problems: Problems, notes: list[str]
) -> list[tuple[Draft, tuple[int, ...]]]:
    rules: list[Any] = experiment.tree.get("exclude") or []
    seeds = tuple(dict.fromkeys(experiment.seeds))
    used = [False] * len(rules)
    views: list[Fields] = []
    kept = []
    for draft in drafts:
        view = drafted(draft.row, draft.varied) if rules else Fields({})
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
        problems.add(mark_of(experiment.tree, "exclude"), "excludes every row; nothing is left")
    return kept


def _check_rule(
    rule: Any, hit: bool, views: Sequence[Fields], problems: Problems, notes: list[str]
) -> None:
    wrong = {name: refusal(views, name, value) for name, value in rule.items()}
    for name in filter(wrong.get, wrong):
        problems.add(mark_of(rule, name), wrong[name])
    if not hit and not any(wrong.values()):
        mark = getattr(rule, "mark", Mark())
        notes.append(f"{mark.prefix}excludes nothing")
