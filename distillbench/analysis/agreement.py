"""How far tables agree with the papers': signs of published comparisons, and rankings.

A published comparison is a pair of rows of one table and one group that both have a published
number of a metric, and different ones. It agrees where ours differ with the same sign, and it is
decided where ours differ by more than 1.96 times the root of the sum of their squared standard
errors. Pairs of one table share rows, so that an interval of a share, which takes them for
independent, is too narrow; it is the least that can be said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, NamedTuple

from distillbench.analysis.scorers import Scorers
from distillbench.analysis.tails import wilson
from distillbench.analysis.written import PAPER, WrittenNumber, WrittenRow, WrittenTable

__all__ = ["Agreement", "Comparison", "agreements", "comparisons", "in_all", "tau_b"]

Outcome = Literal["agrees", "differs", "undecided"]
_Z = 1.959964


@dataclass(frozen=True)
class Comparison:
    """One published comparison.

    Attributes:
        table, group, metric, a, b: the two rows and where they stand.
        ours, published: value of a less that of b.
        same_sign: whether the signs of both are the same; never where ours are equal.
        outcome: undecided where our difference is within its error, or has none.
    """

    table: str
    group: str
    metric: str
    a: str
    b: str
    ours: float
    published: float
    same_sign: bool
    outcome: Outcome


@dataclass(frozen=True)
class Agreement:
    """Comparisons of one metric: of a table's group, or ("" for what is summed) of all tables.

    Attributes:
        label: the metric's head, which says whose network it is.
        rows: rows with both numbers; None where tables are summed.
        tied: pairs with the same published number, which are no comparisons.
        agree, differ, undecided: comparisons by outcome.
        share, low, high: agree / (agree + differ) with its Wilson 95 % interval; None of none.
        signs, signs_low, signs_high: the same of all comparisons, by our sign whatever its error.
        tau: Kendall's tau-b of our values with the published ones, of one table and group; None
            where one side is all equal or fewer than two rows have both.
    """

    table: str
    group: str
    metric: str
    label: str
    rows: int | None
    tied: int
    agree: int
    differ: int
    undecided: int
    share: float | None
    low: float | None
    high: float | None
    signs: float | None
    signs_low: float | None
    signs_high: float | None
    tau: float | None


def comparisons(table: WrittenTable) -> list[Comparison]:
    """The published comparisons of a table, in the order of its columns and rows."""
    found = []
    for metric in table.compared:
        for group, rows in _groups(table, metric).items():
            for a, b in combinations(rows, 2):
                if made := _compared(table.name, group, metric, a, b):
                    found.append(made)
    return found


def agreements(table: WrittenTable) -> list[Agreement]:
    """One line for each metric and group of a table that has rows with both numbers."""
    made = comparisons(table)
    lines = []
    for metric, head in table.compared.items():
        for group, rows in _groups(table, metric).items():
            mine = [c for c in made if (c.metric, c.group) == (metric, group)]
            published = [row.number(metric + PAPER).value or 0.0 for row in rows]
            ties = sum(a == b for a, b in combinations(published, 2))
            ours = [row.number(metric).value or 0.0 for row in rows]
            tau = tau_b(ours, published)
            lines.append(_line((table.name, group, metric, head.text), mine, ties, len(rows), tau))
    return lines


def in_all(tables: Sequence[WrittenTable], scorers: Scorers | None = None) -> list[Agreement]:
    """One line for each metric over all tables, and a last one ("") over all metrics.

    Measured with other networks it is another metric; with other weights or another version of one
    a table is left out, see `Scorers`.
    Categories of a metric (`hps_photo` where the table has `hps`) have lines of their own and are
    left out of the last: they are what the metric is the mean of.
    """
    parts: dict[tuple[str, str], list[_Part]] = {}
    scorers = scorers or Scorers(tables)
    for table in tables:
        made, lines = comparisons(table), agreements(table)
        for metric, head in table.compared.items():
            if scorers.left_out(table, metric):
                continue
            mine = [c for c in made if c.metric == metric]
            ties = sum(line.tied for line in lines if line.metric == metric)
            part = _Part(head.text, mine, ties, _is_category(table, metric))
            parts.setdefault((metric, head.measured), []).append(part)
    summed = [
        _sum((metric, min((p.label for p in same), key=len)), same)
        for (metric, _), same in parts.items()
    ]
    whole = [part for same in parts.values() for part in same if not part.category]
    return [*summed, _sum(("", ""), whole)]


def tau_b(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Kendall's tau-b (Kendall 1945): concordant less discordant pairs, corrected for ties.

    None where it is not defined: fewer than two values, or one side all equal.
    """
    signs = [(_sign(x - u), _sign(y - v)) for (x, y), (u, v) in combinations(zip(a, b), 2)]
    first, second = (sum(pair[side] != 0 for pair in signs) for side in (0, 1))
    return sum(x * y for x, y in signs) / math.sqrt(first * second) if first and second else None


def _groups(table: WrittenTable, metric: str) -> dict[str, list[WrittenRow]]:
    """Group -> its rows with both numbers; a mean over a part of its seeds is none, as in ranks."""
    groups: dict[str, list[WrittenRow]] = {}
    for row in table.rows:
        ours, published = row.number(metric), row.number(metric + PAPER)
        if ours.value is not None and published.value is not None and not ours.partial:
            groups.setdefault(row.group, []).append(row)
    return groups


def _compared(
    table: str, group: str, metric: str, a: WrittenRow, b: WrittenRow
) -> Comparison | None:
    """None where the papers' numbers are the same, or ours are distances to different things."""
    mine, theirs = ([row.number(metric + end) for row in (a, b)] for end in ("", PAPER))
    ours, published = _difference(*mine), _difference(*theirs)
    if published == 0 or mine[0].against != mine[1].against:
        return None
    same = _sign(ours) == _sign(published)
    outcome: Outcome = ("agrees" if same else "differs") if _decided(ours, *mine) else "undecided"
    return Comparison(table, group, metric, a.name, b.name, ours, published, same, outcome)


def _difference(a: WrittenNumber, b: WrittenNumber) -> float:
    return (a.value or 0.0) - (b.value or 0.0)


def _decided(difference: float, a: WrittenNumber, b: WrittenNumber) -> bool:
    if a.stderr is None or b.stderr is None:
        return False
    return abs(difference) > _Z * math.hypot(a.stderr, b.stderr)


def _line(
    where: tuple[str, str, str, str],
    made: Sequence[Comparison],
    ties: int,
    rows: int | None = None,
    tau: float | None = None,
) -> Agreement:
    agree, differ, undecided = (
        sum(c.outcome == outcome for c in made) for outcome in ("agrees", "differs", "undecided")
    )
    share = _share(agree, agree + differ)
    signs = _share(sum(c.same_sign for c in made), len(made))
    return Agreement(*where, rows, ties, agree, differ, undecided, *share, *signs, tau)


class _Part(NamedTuple):
    """What one table says of a metric."""

    label: str
    made: Sequence[Comparison]
    ties: int
    category: bool


def _sum(names: tuple[str, str], parts: Sequence[_Part]) -> Agreement:
    made = [c for part in parts for c in part.made]
    return _line(("", "", *names), made, sum(part.ties for part in parts))


def _share(part: int, n: int) -> tuple[float | None, float | None, float | None]:
    return (part / n, *wilson(part / n, n)) if n else (None, None, None)


def _is_category(table: WrittenTable, metric: str) -> bool:
    return any(metric.startswith(f"{other}_") for other in table.compared)


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
