"""Labels, captions and notes are text: every writer shows them as they were typed."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from rich.console import Console

from distillbench.files.plaintext import visible
from distillbench.report.console import console_table, notes_text
from distillbench.report.style import new_figure, save
from distillbench.report.table import Column, Entry, Line, Table
from distillbench.report.tex import escape
from distillbench.report.writers import table_csv, table_md, table_tex, to_csv

TEXTS = [
    "Down [is] good, see [/ref]", "[bold]x[/bold]", "[/]", "a | b", "`code` *b* _i_ **c**",
    "<script>alert(1)</script>", "&lt;b&gt; &amp; &#60;", "$\\alpha$ and $", "x -- y --- z",
    "<<y>> ''q'' ``r`` ?` !` ,,s", "\\input{x} ^^M % #1 {", "- item", "1. item", "# head",
    "> quote",
    "~~gone~~", "![a](b)", "a\\b\\", "=1+1", "@SUM(A1)", "+cmd|' /C calc'!A0", "__init__", "--",
]  # fmt: skip


def table(text: str) -> Table:
    columns = (Column("label", text, "field"), Column("m", "M", "number", direction="up"))
    lines = tuple(
        Line((Entry(text, text), Entry(f"{v:.1f}", v, n=4)), group=text) for v in (-1.5, 2.0)
    )
    return Table("t", text, columns, lines, (("a", text),), (text,))


class _Text(HTMLParser):
    """The text of a page, its tags counted."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.tags = "", set[str]()

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)


@pytest.mark.parametrize("text", TEXTS)
def test_markdown_shows_text_as_typed(text: str) -> None:
    page = _Text()
    page.feed(MarkdownIt("gfm-like", {"linkify": False}).render(table_md(table(text))))
    assert page.tags <= {
        "h1",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "em",
        "strong",
        "p",
        "u",
    }
    assert page.text.count(text) == 7  # title, head, group, two rows, footnote, note


@pytest.mark.parametrize("text", TEXTS)
def test_the_terminal_shows_text_as_typed(text: str) -> None:
    console = Console(width=200, file=io.StringIO(), highlight=False)
    console.print(console_table(table(text)))
    console.print(notes_text(table(text)), "")
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert shown.count(text) == 7


@pytest.mark.parametrize("text", TEXTS)
def test_csv_cells_are_no_formulas(text: str) -> None:
    rows = list(csv.reader(io.StringIO(table_csv(table(text)))))
    for row in rows[1:]:
        assert row[0].removeprefix("'") == row[1].removeprefix("'") == text
        assert text == "--" or row[0][0] not in "=+-@"
        assert float(row[2]) in (-1.5, 2.0)


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1", "'=1"), (" =1", "' =1"), ("-x", "'-x"), ("+x", "'+x"), ("@x", "'@x"),
        ("\tx", "'\tx"), ("\uff1d1", "'\uff1d1"), ("-1.5", "-1.5"), ("+2e-3", "+2e-3"),
        ("-5%", "-5%"), (-1.5, "-1.5"),
        (-3, "-3"), (None, ""), ("--", "--"), ("plain", "plain"), ("-1+cmd", "'-1+cmd"),
    ],
)  # fmt: skip
def test_numbers_stay_numbers_in_csv(value: Any, cell: str) -> None:
    assert list(csv.reader(io.StringIO(to_csv(["h"], [[value]]))))[1:] == (
        [[cell]] if cell else [[""]]
    )


def test_latex_breaks_the_ligatures_of_fonts() -> None:
    assert escape("x -- y --- z") == "x -{}- y -{}-{}- z"
    assert escape("''q'' ``r``") == "'{}'q'{}' `{}`r`{}`"
    assert escape("?` !` ,,") == "?{}` !{}` ,{},"
    assert escape("<<y>>") == r"\textless{}\textless{}y\textgreater{}\textgreater{}"
    assert escape("1\u2013-2") == "1--{}-2"
    assert escape("^^M^^5c") == r"\textasciicircum{}\textasciicircum{}M" + (
        r"\textasciicircum{}\textasciicircum{}5c"
    )


@pytest.mark.parametrize("text", TEXTS)
def test_latex_holds_no_live_command_of_a_text(text: str) -> None:
    body = table_tex(table(text))[1]
    assert "\\input{" not in body.split("\n", 1)[1]
    assert not re.search(
        r"(?<!\\)[$](?!-[$]|\\)", body.replace(r"$\uparrow$", "").replace("$-$", "")
    )
    assert body.count("{") - body.count(r"\{") == body.count("}") - body.count(r"\}")


def test_a_newline_in_a_caption_begins_no_line() -> None:
    body = table_tex(table("a\n\\end{table}\n% b"))[1]
    assert body.count("\\end{table}") == 1


def test_figures_take_dollars_as_dollars(tmp_path: Path) -> None:
    figure = new_figure(2, 2)
    axes = figure.add_subplot()
    axes.plot([1, 2], [1, 2], label="$\\frac{$")
    axes.set_ylabel("$\\nothing$")
    axes.legend()
    paths = save(figure, tmp_path / "f", (".png", ".pdf"))
    assert all(path.stat().st_size for path in paths)


def test_what_steers_a_terminal_is_spelled() -> None:
    assert visible("a\x1b[2Jb\u202ec\rd\x00") == "a\\x1b[2Jb\\u202ec d\\x00"
    assert visible("caf\u00e9\nline") == "caf\u00e9\nline"
