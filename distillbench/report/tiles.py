"""What stands where in a grid of samples: over prompts, noises, or a field of the rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from distillbench.analysis.rows import Row
from distillbench.report.samples import pick_balanced
from distillbench.report.strips import Strip

__all__ = ["Tile", "TileGrid", "laid_out"]


class Tile(NamedTuple):
    """A sample: whose, its position there, and of which evaluation where it is no finished one."""

    strip: Strip
    place: int
    evaluation: int | None = None


@dataclass(frozen=True)
class TileGrid:
    """A grid of samples.

    Attributes:
        corner: what all columns share; "" where the heads say all.
        heads: one text a column.
        lines: label, and for each column a sample or why there is none ("" without a reason).
    """

    corner: str
    heads: tuple[str, ...]
    lines: tuple[tuple[str, tuple[Tile | str, ...]], ...]


def laid_out(
    across: str, strips: Sequence[Strip], rows: Sequence[Row], *, most: int, prompt: int,
    clouds: bool = False,
) -> TileGrid:  # fmt: skip
    """The grid of some rows' strips, which are of the same prompts, of at most so many columns.

    Where tiles are clouds of points, one has all noises of its prompt.
    """
    shown = next((strip for strip in strips if not strip.missing), None)
    lines = shown.lines if shown else []
    if across == "prompts":
        places = pick_balanced(lines, most)
        return _by_place("", [str(lines[i]["prompt"]) for i in places], strips, places)
    prompts = list(dict.fromkeys(str(line["prompt"]) for line in lines)) or [""]
    chosen = prompts[min(prompt, len(prompts) - 1)]
    places = [i for i, line in enumerate(lines) if line["prompt"] == chosen]
    if across == "noise" and clouds:
        return _by_place(chosen, [f"{len(places)} noises"], strips, places[:1])
    if across == "noise":
        heads = [f"noise {number + 1}" for number in range(len(places))]
        return _by_place(chosen, heads[:most], strips, places[:most])
    if across == "evaluations":
        return _by_evaluation(chosen, strips, places[0] if places else 0, most)
    values = [row.get(across) for row in rows]
    return _by_value(across, chosen, strips, values, places[0] if places else 0, most)


def _by_place(
    corner: str, heads: Sequence[str], strips: Sequence[Strip], places: Sequence[int]
) -> TileGrid:
    """A line a row, a column a position."""
    lines = [(s.label, tuple(_tile(s, place) for place in places or [0])) for s in strips]
    return TileGrid(corner, tuple(heads), tuple(lines))


def _by_evaluation(corner: str, strips: Sequence[Strip], place: int, most: int) -> TileGrid:
    """A line a row, a column an evaluation; rows of fewer have empty tiles behind their last."""
    columns = range(min(most, max((strip.cell.nfe for strip in strips), default=0)))
    lines = [
        (
            s.label,
            tuple(s.missing or (Tile(s, place, n) if n < s.cell.nfe else "") for n in columns),
        )
        for s in strips
    ]
    return TileGrid(corner, tuple(f"evaluation {n + 1}" for n in columns), tuple(lines))


def _by_value(
    field: str, corner: str, strips: Sequence[Strip], values: Sequence[Any], place: int, most: int
) -> TileGrid:
    """A column a value of the field; rows of one label share lines, one row a place."""
    kept = _ordered(value for value in values if value is not None)[:most]
    lines: dict[str, list[dict[Any, Tile | str]]] = {}
    for strip, value in zip(strips, values, strict=True):
        if value not in kept:
            continue
        open_lines = lines.setdefault(strip.label, [])
        line = next((line for line in open_lines if value not in line), None)
        if line is None:
            open_lines.append(line := {})
        line[value] = _tile(strip, place)
    name = "NFE" if field == "nfe" else field.rpartition(".")[2].replace("_", " ")
    return TileGrid(
        corner,
        tuple(f"{name} {value}" for value in kept),
        tuple(
            (label, tuple(line.get(value, "") for value in kept))
            for label, same in lines.items() for line in same
        ),
    )  # fmt: skip


def _ordered(values: Iterable[Any]) -> list[Any]:
    """Each value once, numbers in order, others as they come."""
    found = list(dict.fromkeys(values))
    return sorted(found) if all(isinstance(value, (int, float)) for value in found) else found


def _tile(strip: Strip, place: int) -> Tile | str:
    return strip.missing or Tile(strip, place)
