"""How a checkpoint is sampled: by its own recipe, or as a row was that was sampled before.

Rows that differ in sampling alone share one training, whose recipe.json holds the settings of the
row it was first trained for; what each row did is in its sample stages.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distillbench.errors import BadInput
from distillbench.files.plaintext import visible
from distillbench.specs.stored import Told
from distillbench.store.runs import SampledRow, sampled_rows

if TYPE_CHECKING:
    from distillbench.api.sampler import Sampler

__all__ = ["RowOption", "recipe_like", "say_other_rows", "stored_row"]

RowOption = Annotated[
    str, typer.Option("--row", metavar="LABEL", help="Sample as this stored row was sampled.")
]
_USUAL = (4, 2, 1, 8)


def stored_row(folder: Path, row: str, nfe: int | None) -> SampledRow:
    """A stored row of a training; that of its usual evaluations where none is asked.

    Raises:
        BadInput: there is no such row, or none with so many evaluations, or several that differ.
    """
    rows = sampled_rows(folder)
    named = [r for r in rows if r.label == row or (len(row) > 5 and r.key.startswith(row))]
    if not named:
        known = ", ".join(dict.fromkeys(r.label for r in rows)) or "none"
        raise BadInput(f"--row {row}: no such row of {folder.name} is stored; there are: {known}")
    there = [r.nfe for r in named]
    wanted = nfe or next((n for n in _USUAL if n in there), there[0])
    found = {str([r.sampler, r.placed]): r for r in named if r.nfe == wanted}
    if not found:
        evaluations = ", ".join(str(n) for n in sorted(set(there)))
        raise BadInput(f"--row {row}: was not sampled with nfe {wanted}, but with {evaluations}")
    if len(found) > 1:
        keys = "; ".join(f"{r.key} ({_differences(r, found.values())})" for r in found.values())
        raise BadInput(f"--row {row}: means several recipes; name a sample stage: {keys}")
    return next(iter(found.values()))


def recipe_like(folder: Path, row: SampledRow | None, nfe: int | None) -> Mapping[str, Any] | None:
    """The recipe of a row, or of one beside it with so many evaluations; None is the method's."""
    if row is None or nfe in (None, row.nfe):
        return row.sampler if row is not None else None
    beside = (r for r in sampled_rows(folder) if (r.label, r.placed) == (row.label, row.placed))
    return next((r.sampler for r in beside if r.nfe == nfe), None)


def say_other_rows(folder: Path, used: Sampler) -> None:
    """Tell on standard error of stored rows that were sampled otherwise than by `used` alone."""
    mine = used.model_dump(mode="json")
    alike = [r for r in sampled_rows(folder) if r.nfe == used.nfe]
    rows = [r for r in alike if r.sampler != mine or r.placed]
    others = {row.label: _values(_shown(row), mine) for row in rows}
    if others:
        first, told = rows[0], "; ".join(f"{label} has {text}" for label, text in others.items())
        own = _values(mine, _shown(first)) or "nothing beside it"
        what = f"sampled by the recipe of the training ({own}); of its stored rows {told}"
        print(visible(f"note: {what}; --row {first.label!r} takes that"), file=sys.stderr)


def _values(of: Mapping[str, Any], against: Mapping[str, Any]) -> str:
    """The fields of a recipe that differ from those of another."""
    names = [name for name in of if of[name] != against.get(name)]
    return ", ".join(f"{name} {of[name]}" for name in names)


def _shown(row: SampledRow) -> Mapping[str, Any]:
    """Its recipe, and in short what it is sampled with beside the student's own weights."""
    there, told = dict(row.placed), Told.model_validate(dict(row.told))
    if "sample_on" in there:
        where = told.settings.get("sample_on", {}).get("model")
        there["sample_on"] = where or there["sample_on"].get("name")
    if "adapters" in there:
        there["adapters"] = " + ".join(told.adapters)
    for kind in there.keys() & told.places.keys():
        there[kind] = " + ".join(its.get("weights", "") for its in told.places[kind])
    return {**row.sampler, **there}


def _differences(row: SampledRow, among: Iterable[SampledRow]) -> str:
    other = next(r for r in among if (r.sampler, r.placed) != (row.sampler, row.placed))
    return _values(_shown(row), _shown(other)) or "nothing beside it"
