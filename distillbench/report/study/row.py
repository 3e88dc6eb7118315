"""A tally as a table of one row, which the writers of all other tables write."""

from __future__ import annotations

from pathlib import Path

from distillbench.files.io import storage_guard
from distillbench.report.study.tally import PASSED, Tally
from distillbench.report.table import MISSING, Column, Entry, Line, Table
from distillbench.report.writers import write_table

__all__ = ["tally_table", "write_tally"]

_HEADS = (
    ("row", "Row"), ("against", "Against"), ("pairs", "Pairs"), ("wins", "Wins"),
    ("ties", "Ties"), ("losses", "Losses"), ("raters", "Raters"),
)  # fmt: skip


def write_tally(found: Tally, folder: Path) -> list[Path]:
    """Write the row in every format of a table; raises StorageError where that cannot be."""
    with storage_guard(folder):
        return write_table(tally_table(found), folder)


def tally_table(found: Tally) -> Table:
    """The table `study`: who was compared, counts, win rate with its interval, agreement."""
    values = (found.a, found.b, found.pairs, found.wins, found.ties, found.losses,
              len(found.raters))  # fmt: skip
    agreement = found.agreement
    interval = f"{found.low:.1%} to {found.high:.1%}"
    cells = (
        *(Entry(str(value), value) for value in values),
        Entry(f"{found.win_rate:.1%}", found.win_rate, n=found.pairs),
        Entry(interval, interval),
        Entry(MISSING if agreement is None else f"{agreement:.0%}", agreement, n=found.pairs),
        Entry(found.verdict, found.verdict),
    )
    columns = (
        *(Column(key, label, "field") for key, label in _HEADS),
        Column("win_rate", "Preferred", "number"), Column("interval", "95 % interval", "field"),
        Column("agreement", "Agreement", "number"), Column("verdict", "Verdict", "field"),
    )  # fmt: skip
    return Table("study", "Which of two pictures people prefer", columns, (Line(cells),),
                 notes=_notes(found))  # fmt: skip


def _notes(found: Tally) -> tuple[str, ...]:
    """How it was counted, and who was left out."""
    left_out = len(found.inattentive)
    counted = (
        "Majority of each pair's raters, a tie as half; Wilson's interval over pairs; agreement is "
        "the share of equal answers over all pairs of raters of one pair."
    )
    who = f"{left_out} rater(s) left out, with fewer than {PASSED:.0%} of the checks right."
    return (counted, who) if left_out else (counted,)
