"""The samples of rows, ready to be held side by side: same prompts, same noise, one seed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distillbench.analysis.aggregate import Results
from distillbench.analysis.rows import Row
from distillbench.errors import ArtifactError
from distillbench.plan.stage import Cell
from distillbench.report.samples import read_lines

__all__ = ["Strip", "comparable", "strips_of", "without_term"]


@dataclass(frozen=True)
class Strip:
    """The samples of one row: its label, and either samples or why there are none.

    Attributes:
        lines: of samples.jsonl. folder: of the sample stage. cell: the seed shown.
    """

    label: str
    cell: Cell
    lines: Sequence[Mapping[str, Any]] = ()
    folder: Path = Path()
    missing: str = ""

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompt of every sample, in order."""
        return tuple(line["prompt"] for line in self.lines)


def strips_of(
    results: Results, rows: Sequence[Row], labels: Mapping[str, str], *, across: str = ""
) -> list[Strip]:
    """One strip for each row, all of the first row's first seed; its label leaves `across` out."""
    return [_strip(results, row, labels, rows, across) for row in rows]


def without_term(name: str, field: str) -> str:
    """`TCD (gamma=0.3, eta=1)` without its `gamma=..`."""
    match = re.fullmatch(r"(.*) \((.*)\)", name)
    if match is None:
        return name
    axis = field.rpartition(".")[2]
    kept = [term for term in match[2].split(", ") if not term.startswith(f"{axis}=")]
    return f"{match[1]} ({', '.join(kept)})" if kept else match[1]


def _strip(
    results: Results, row: Row, labels: Mapping[str, str], rows: Sequence[Row], across: str
) -> Strip:
    seed = rows[0].first.seed
    cell = next((c for c in row.cells if c.seed == seed), row.first)
    several = len({r.first.backbone for r in rows}) > 1
    parts = {
        "label": without_term(row.name, across),
        "nfe": f"NFE {cell.nfe}",
        "updates": "" if cell.final else f"{cell.updates} updates",
        "backbone": labels.get(cell.backbone, cell.backbone) if several else "",
    }
    label = ", ".join(text for field, text in parts.items() if text and field != across)
    if cell.seed != seed:
        return Strip(label, cell, missing=f"has no seed {seed}")
    if not results.store.is_done("sample", cell.sample):
        return Strip(label, cell, missing=results.missing_stage(cell.sample))
    folder = results.store.path("sample", cell.sample)
    try:
        return Strip(label, cell, read_lines(folder), folder)
    except ArtifactError as error:
        return Strip(label, cell, missing=str(error))


def comparable(strips: Sequence[Strip]) -> list[Strip]:
    """Strips of other prompts than the first one's are named, not shown under wrong titles."""
    prompts = next((strip.prompts for strip in strips if not strip.missing), ())
    return [
        strip if strip.missing or strip.prompts == prompts
        else Strip(strip.label, strip.cell, missing="sampled from other prompts")
        for strip in strips
    ]  # fmt: skip
