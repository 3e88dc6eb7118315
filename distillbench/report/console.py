"""Tables and verdicts for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table as RichTable
from rich.text import Text

from distillbench.analysis.verdicts import Verdict
from distillbench.api.metric import MetricInfo
from distillbench.report.claim_writers import claim_texts, why
from distillbench.report.table import Column, Entry, Table
from distillbench.report.writers import UNICODE_ARROWS

__all__ = ["claims_table", "console_table", "notes_text"]

_STYLES = {1: "bold green", 2: "underline"}
_VERDICTS = {"holds": "bold green", "fails": "bold red", "undecided": "yellow", "differ": "cyan"}


def console_table(table: Table) -> RichTable:
    """The table as a rich renderable, without its notes."""
    shown = RichTable(
        title=Text(" ".join((table.caption or table.name).split()), style="italic"),
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for column in table.columns:
        head = [column.span, column.label, UNICODE_ARROWS[column.direction]]
        right = column.kind != "field"
        shown.add_column(Text(" ".join(filter(None, head))), justify="right" if right else "left",
                         overflow="fold")  # fmt: skip
    for name, lines in table.groups:
        if name:
            shown.add_section()
            shown.add_row(Text(name, style="italic dim"))
        for line in lines:
            shown.add_row(*(_cell(c, column) for c, column in zip(line.cells, table.columns)))
    return shown


def notes_text(table: Table) -> Text:
    """Footnotes and notes, one a line."""
    lines = [f"{mark}: {text}" for mark, text in table.footnotes] + list(table.notes)
    return Text("\n".join(lines).replace("+-", "\u00b1"), style="dim")


def claims_table(verdicts: Sequence[Verdict], infos: Mapping[str, MetricInfo]) -> RichTable:
    """One line per claim: the verdict first, then what it rests on."""
    shown = RichTable(title="Claims", title_justify="left", box=None, pad_edge=False)
    for head in ("", "claim", "difference", "95 % interval", "p (Holm)", "effect"):
        shown.add_column(head, overflow="fold")
    for verdict in verdicts:
        text = claim_texts(verdict, infos)
        claim = Text(verdict.text)
        if reason := why(verdict):
            claim.append(f"\n{reason}", style="dim")
        word = Text(text[1], style=_VERDICTS[verdict.verdict])
        shown.add_row(word, claim, *(Text(text[i]) for i in (4, 5, 7, 8)))
    return shown


def _cell(cell: Entry, column: Column) -> Text:
    text = Text(
        cell.text, style="dim" if column.kind == "published" else _STYLES.get(cell.rank, "")
    )
    if cell.stderr_text:
        text.append(f" \u00b1{cell.stderr_text}", style="dim not bold")
    if cell.marks:
        text.append(f" {','.join(cell.marks)}", style="dim not bold")
    return text
