"""Which tables' numbers of one head may be summed: those that one scorer measured.

A scorer is a metric's version with the weights it was measured by. Tables of an older world, or of
another version of a metric, have the same heads and are not of one scale.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from distillbench.analysis.written import Scorer, WrittenTable
from distillbench.errors import DistillbenchError

__all__ = ["Scorers"]


class Scorers:
    """The scorer that counts for each head, and what is left out because of it.

    It is the one that is here where any table has it, else one that is on record before one that is
    not, else that of most tables.
    """

    def __init__(self, tables: Sequence[WrittenTable]) -> None:
        self._tables = tables
        found: dict[str, Counter[Scorer]] = {}
        for table in tables:
            for metric, head in table.compared.items():
                found.setdefault(head.measured, Counter())[table.scorer(metric)] += 1
        self._counts = {head: _first(scorers) for head, scorers in found.items()}

    def left_out(self, table: WrittenTable, metric: str) -> bool:
        """Whether a table's numbers of a metric are of another scorer than the one that counts."""
        head = table.compared[metric].measured
        return table.scorer(metric) != self._counts[head]

    @property
    def notes(self) -> list[str]:
        """What is left out with both scorers, and what counts that is not the one here."""
        lines = []
        for head, counts in self._counts.items():
            others: dict[Scorer, dict[str, None]] = {}
            for table in self._tables:
                for metric, own in table.compared.items():
                    if own.measured == head and (scorer := table.scorer(metric)) != counts:
                        others.setdefault(scorer, {})[table.name] = None
            lines += [
                f"{head}: left out of the sums are {', '.join(names)}, measured by another scorer "
                f"({scorer.text}; the sums are of {counts.text})."
                for scorer, names in others.items()
            ]
            here = _here(counts)
            if not counts.version:
                lines.append(f"{head}: what measured it is not on record in these tables.")
            elif here is not None and here != counts:
                lines.append(f"{head}: measured by {counts.text}; the one here is {here.text}.")
        return lines


def _first(scorers: Mapping[Scorer, int]) -> Scorer:
    """The scorer that counts among some of one head."""

    def rank(scorer: Scorer) -> tuple[bool, bool, int, str]:
        return _here(scorer) == scorer, bool(scorer.version), scorers[scorer], scorer.revision

    return max(scorers, key=rank)


def _here(scorer: Scorer) -> Scorer | None:
    """What the metric of that name with those weights is in this version; None where it is not."""
    from distillbench.api.registry import build_metric

    try:
        metric = build_metric(scorer.metric, {"weights": scorer.weights} if scorer.weights else {})
        return scorer._replace(version=str(metric.version), revision=metric.revision())
    except (DistillbenchError, ValueError):
        return None
