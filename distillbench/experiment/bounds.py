"""The size of a grid, counted from its lists before any of it is built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

from distillbench.experiment.schema import CellConfig, Experiment
from distillbench.files.limits import Limits, over
from distillbench.files.marks import MapNode, Mark, Problems, locate

__all__ = ["check_cell", "check_size"]

LISTED = ("nfe", "snapshots")
"""Fields of a row whose lists make one cell each."""
_FACTORS = ("grid", "zip", "ablate", "rows", "include", "seeds")


def check_size(
    experiment: Experiment, rows: list[MapNode], extra: list[MapNode], problems: Problems
) -> None:
    """Refuse a grid of too many cells, counted before `exclude`, and a reference of too many steps.

    The count is exact, or from above where `ablate` and `grid` both set lists of `nfe`.

    Args:
        experiment: whose grid it is.
        rows, extra: merged rows, and merged entries of `include`.
        problems: where it is noted.

    Raises:
        ConfigError: all problems so far, when it is too large to be built.
    """
    tree = experiment.tree
    each = sum(map(_Axes(tree).row, rows)) + sum(map(_width, extra))
    cells, allowed = each * len(experiment.seeds), experiment.limits.cells
    if cells > allowed:
        fix = "cut it, or give --max-cells N (limits.cells) if it is meant"
        problems.add(_largest_factor(tree), over("the number of cells", cells, allowed, fix))
        problems.raise_if_any()
    if experiment.reference is not None:
        mark = locate(tree, ("reference", "nfe"))[0]
        _check(experiment.reference.nfe, "nfe", mark, experiment.limits, problems)


class _Axes:
    """What multiplies every row."""

    def __init__(self, tree: MapNode) -> None:
        self.grid, self.zip, self.ablate = (tree.get(k) or {} for k in ("grid", "zip", "ablate"))
        self.centres = prod(map(len, self.grid.values())) * self._steps()

    def _steps(self) -> int:
        return min(map(len, self.zip.values()), default=1)

    def row(self, row: MapNode) -> int:
        widest = {key: self.widest(key, row) for key in LISTED}
        around = sum(
            prod({**widest, **_set_by(factor, value)}.values())
            for factor, values in self.ablate.items()
            for value in values
        )
        return self.centres * around + self.own(row)

    def own(self, row: MapNode) -> int:
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
        return grid * steps * prod(_length(row.get(key)) for key in free)

    def widest(self, key: str, row: MapNode) -> int:
        values = [*self.grid.get(key, ()), *self.zip.get(key, ())]
        return max(map(_length, values), default=_length(row.get(key)))


def _set_by(factor: str, value: Any) -> dict[str, int]:
    found = value if isinstance(value, Mapping) else {factor: value}
    return {key: _length(found[key]) for key in LISTED if key in found}


def _width(row: MapNode) -> int:
    return prod(_length(row.get(key)) for key in LISTED)


def _length(value: Any) -> int:
    return len(value) if isinstance(value, list) and value else 1


def _largest_factor(tree: MapNode) -> Mark:
    """Where the longest list that multiplies stands."""
    lengths = {key: max(_lengths(tree[key]), default=1) for key in _FACTORS if tree.get(key)}
    if not lengths:
        return tree.mark
    return locate(tree, (max(lengths, key=lambda key: lengths[key]),))[0]


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
