"""The size of a grid, counted from its lists before any of it is built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

from distillbench.experiment.factors import FACTORS
from distillbench.experiment.schema import CellConfig, Experiment
from distillbench.files.limits import Limits, over
from distillbench.files.marks import MapNode, Mark, Path, Problems, locate

__all__ = ["check_cell", "check_size"]

LISTED = ("nfe", "snapshots")
"""Fields of a row whose lists make one cell each."""


def check_size(
    experiment: Experiment, rows: Sequence[tuple[list[MapNode], MapNode]], problems: Problems
) -> None:
    """Refuse a grid of too many cells, counted before `exclude`, and a reference of too many steps.

    The count is exact, or from above where `ablate` and `grid` both set lists of `nfe`, or where
    methods are varied that have other such lists.

    Args:
        experiment: whose grid it is.
        rows: each row, merged for every method it may have, and what varies it.
        problems: where it is noted.

    Raises:
        ConfigError: all problems so far, when it is too large to be built.
    """
    tree = experiment.tree
    each = sum(_Axes(factors).row(forms) for forms, factors in rows)
    cells, allowed = each * len(experiment.seeds), experiment.limits.cells
    if cells > allowed:
        fix = "cut it, or give --max-cells N (limits.cells) if it is meant"
        problems.add(_largest_factor(tree), over("the number of cells", cells, allowed, fix))
        problems.raise_if_any()
    if experiment.reference is not None:
        mark = locate(tree, ("reference", "nfe"))[0]
        _check(experiment.reference.nfe, "nfe", mark, experiment.limits, problems)


class _Axes:
    """What multiplies a row, which `forms` has as it is with each of its methods."""

    def __init__(self, factors: MapNode) -> None:
        self.grid, self.zip, self.ablate = (factors.get(k) or {} for k in FACTORS)
        self.centres = prod(map(len, self.grid.values())) * self._steps()

    def _steps(self) -> int:
        return min(map(len, self.zip.values()), default=1)

    def row(self, forms: list[MapNode]) -> int:
        widest = {key: self.widest(key, forms) for key in LISTED}
        around = sum(
            prod({**widest, **_set_by(factor, value)}.values())
            for factor, values in self.ablate.items()
            for value in (values if isinstance(values, list) else [values])
        )
        return self.centres * around + self.own(forms)

    def own(self, forms: list[MapNode]) -> int:
        """The row and its variants by grid and zip, without those around it."""
        grid = prod(
            sum(map(_length, values)) if path in LISTED else len(values)
            for path, values in self.grid.items()
        )
        free = [k for k in LISTED if k not in self.grid and k not in self.zip]
        steps = sum(
            prod(_length(self.zip[key][i]) for key in LISTED if key in self.zip)
            for i in range(self._steps())
        )
        return grid * steps * prod(_longest(key, forms) for key in free)

    def widest(self, key: str, forms: list[MapNode]) -> int:
        values = [*self.grid.get(key, ()), *self.zip.get(key, ())]
        return max(map(_length, values), default=_longest(key, forms))


def _set_by(factor: str, value: Any) -> dict[str, int]:
    found = value if isinstance(value, Mapping) else {factor: value}
    return {key: _length(found[key]) for key in LISTED if key in found}


def _longest(key: str, forms: list[MapNode]) -> int:
    return max(_length(form.get(key)) for form in forms)


def _length(value: Any) -> int:
    return len(value) if isinstance(value, list) and value else 1


def _largest_factor(tree: MapNode) -> Mark:
    """Where the longest list that multiplies stands."""
    lengths = [(max(_lengths(node), default=1), path) for path, node in _factors(tree)]
    return locate(tree, max(lengths, key=lambda each: each[0], default=(0, ()))[1])[0]


def _factors(tree: MapNode) -> Iterator[tuple[Path, Any]]:
    """What multiplies, in the file and in its rows."""
    for key in (*FACTORS, "rows", "include", "seeds"):
        if tree.get(key):
            yield (key,), tree[key]
    for kind in ("rows", "include"):
        for index, row in enumerate(tree.get(kind) or ()):
            yield from (((kind, index, key), row[key]) for key in FACTORS if row.get(key))


def _lengths(node: Any) -> Iterator[int]:
    for values in node.values() if isinstance(node, dict) else [node]:
        yield len(values) if isinstance(values, list) else 1


def check_cell(config: CellConfig, tree: MapNode, limits: Limits, problems: Problems) -> None:
    """One row against the limits; each of its numbers is told at its place."""
    found = (
        (("sample", "n"), config.sample.n, "samples"),
        (("sample", "batch_size"), config.sample.batch_size, "batch"),
        (("train", "batch_size"), config.train.batch_size, "batch"),
        (("train", "accumulate"), config.train.accumulate, "batch"),
        (("nfe",), max(config.nfe), "nfe"),
    )
    for path, value, limit in found:
        _check(value, limit, locate(tree, path)[0], limits, problems)


def _check(value: int, limit: str, mark: Mark, limits: Limits, problems: Problems) -> None:
    allowed = getattr(limits, limit)
    if value > allowed:
        fix = f"raise limits.{limit} if it is meant"
        problems.add(mark, over("the number", value, allowed, fix))
