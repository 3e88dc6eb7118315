"""Rows: all seeds of one line of a table."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from distillbench.analysis.trained import Trained, trained_of
from distillbench.experiment.select import Fields, matches
from distillbench.plan.stage import Cell, Plan, fields_of

__all__ = ["Row", "chosen", "rows_of"]


@dataclass(frozen=True)
class Row:
    """All seeds of one line of a table."""

    index: int
    cells: tuple[Cell, ...]
    plan: Plan = field(repr=False, compare=False)

    @property
    def first(self) -> Cell:
        """The cell that stands for what all seeds share."""
        return self.cells[0]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Its seeds, in plan order."""
        return tuple(cell.seed for cell in self.cells)

    @property
    def samples(self) -> tuple[str, ...]:
        """Keys of its samples; equal for rows that are the same runs."""
        return tuple(cell.sample for cell in self.cells)

    @cached_property
    def trained(self) -> tuple[Trained, ...]:
        """What was trained behind each seed."""
        return tuple(trained_of(self.plan, cell) for cell in self.cells)

    @property
    def trainings(self) -> tuple[str, ...]:
        """The same by name, equal for one and the same, "" for what is not trained."""
        return tuple(trained.name for trained in self.trained)

    def repeats(self, seeds: Collection[int]) -> int:
        """How many trainings are behind these seeds, 0 where nothing was trained.

        A checkpoint of others is one, also on nets that were trained here seed by seed.
        """
        behind = zip(self.seeds, self.trained, strict=True)
        return len({t.elsewhere or t.here for seed, t in behind if seed in seeds} - {()})

    @property
    def evaluations(self) -> int:
        """Network evaluations of one sample: two for each guided one, which is of two branches.

        A scale that the network takes as an input costs nothing.
        """
        scale = self.first.settings.get("sampler.guidance_scale", self.first.guidance_scale)
        return self.first.nfe * (1 if scale == 1 else 2)

    @property
    def name(self) -> str:
        """What a table calls it."""
        return self.first.name

    @cached_property
    def fields(self) -> Fields:
        """What it can be selected by, and shown by."""
        run = fields_of(self.first)
        plain = {name: value for name, value in run.plain.items() if name != "seed"}
        return Fields({**plain, "seeds": len(self.cells)}, run.tags, run.varied, run.settings)

    def get(self, field: str) -> Any:
        """The value of a field of the selection language, None where it has none."""
        return self.fields.get(field)


def rows_of(plan: Plan) -> tuple[Row, ...]:
    """One per row index, in plan order."""
    grouped: dict[int, list[Cell]] = {}
    for cell in plan.cells:
        grouped.setdefault(cell.row, []).append(cell)
    return tuple(Row(index, tuple(cells), plan) for index, cells in grouped.items())


def chosen(
    rows: Iterable[Row], where: Mapping[str, Any], referenced_fields: Iterable[str] = ()
) -> tuple[Row, ...]:
    """Rows that match `where`, see `experiment.select`.

    Snapshots are left out unless `where` or the fields in `referenced_fields` (a table's columns, a
    curve's axis) name `updates`.
    """
    snapshots = "updates" in where or "updates" in referenced_fields
    fit = (row for row in rows if snapshots or row.first.final)
    return tuple(row for row in fit if matches(row.fields, where.items()))
