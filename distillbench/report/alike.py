"""What tells rows apart that look alike, and in what rows of one table differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distillbench.analysis.rows import Row
from distillbench.plan.identity import canonical_json
from distillbench.report.notes import plain

__all__ = ["differing_note", "mixed_notes", "runs_notes", "told_apart"]

_NAMES = 6
_FIELDS = 5
_UNTOLD = ("label", "group", "nfe")


def told_apart(rows: Sequence[Row], looks: Sequence[Any]) -> list[str]:
    """For each row what differs from rows of the same looks, "" where it has no double.

    `looks` is what the table shows of each row beside its numbers.
    """
    doubles: dict[str, list[int]] = {}
    for index, look in enumerate(looks):
        doubles.setdefault(canonical_json(look), []).append(index)
    texts = [""] * len(rows)
    for members in doubles.values():
        settings = [_settings(rows[index]) for index in members]
        names = dict.fromkeys(name for own in settings for name in own)
        apart = [n for n in names if len({canonical_json(own.get(n)) for own in settings}) > 1]
        for index, own in zip(members, settings, strict=True):
            told = [f"{name} {plain(own[name])}" for name in apart if name in own]
            more = f" and {len(told) - _FIELDS} more" if len(told) > _FIELDS else ""
            texts[index] = ", ".join(told[:_FIELDS]) + more
    return texts


def runs_notes(rows: Sequence[Row]) -> list[str]:
    """Over how many seeds the means are, and which rows are one run."""
    return [*_seeds_note(rows), *_same_runs_note(rows)]


def _same_runs_note(rows: Sequence[Row]) -> list[str]:
    """Rows of several names whose samples are the very same: no result of what they vary."""
    runs: dict[tuple[str, ...], dict[str, None]] = {}
    for row in rows:
        runs.setdefault(row.samples, {})[row.name] = None
    return [
        f"{_some(others)} and {first} are the same run: what they set otherwise changes nothing."
        for first, *others in map(list, runs.values())
        if others
    ]


def _seeds_note(rows: Sequence[Row]) -> list[str]:
    """Over how many seeds the means are, and where they are others."""
    if all(len(row.seeds) == 1 for row in rows) and len({row.seeds for row in rows}) == 1:
        return []
    if len({row.seeds for row in rows}) == 1:
        return [f"Means over {len(rows[0].seeds)} seeds."]
    return differing_note("Seeds", rows, lambda row: ", ".join(map(str, row.seeds)))


def differing_note(what: str, rows: Sequence[Row], value: Callable[[Row], Any]) -> list[str]:
    """What most rows have, and which rows have something else; nothing where all are alike."""
    found: dict[str, dict[str, None]] = {}
    for row in rows:
        found.setdefault(plain(value(row)), {})[row.name] = None
    if len(found) < 2:
        return []
    usual = Counter(plain(value(row)) for row in rows).most_common(1)[0][0]
    others = [f"{text} for {_some(list(names))}" for text, names in found.items() if text != usual]
    return [f"{what}: {usual}, but {'; '.join(others)}."]


def mixed_notes(rows: Sequence[Row], origins: Mapping[int, Mapping[str, str]]) -> list[str]:
    """Where one name stands for two things: a teacher's for other weights, a method's for versions.

    `origins` has of each row, by its index, what it comes from, see `analysis.origins`.
    """
    notes = []
    for name in dict.fromkeys(name for row in rows for name in origins[row.index]):
        having = [row for row in rows if name in origins[row.index]]
        found = differing_note(name, having, lambda row, n=name: origins[row.index][n])  # type: ignore[misc]
        notes += found
    return notes


def _some(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= _NAMES else f"{len(names)} others"


def _settings(row: Row) -> Mapping[str, Any]:
    """What a row is made of, its variations first."""
    fields = row.fields
    plain_fields = {"backbone": row.first.backbone, "method": row.first.method,
                    "guidance_scale": row.first.guidance_scale, "updates": row.first.updates,
                    "seeds": list(row.seeds)}  # fmt: skip
    all_of = {**fields.varied, **fields.tags, **plain_fields, **fields.settings}
    return {name: value for name, value in all_of.items() if name not in _UNTOLD}
