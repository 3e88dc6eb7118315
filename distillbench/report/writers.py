"""Write one table as LaTeX, CSV, Markdown and JSON, byte for byte the same on every machine."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillbench.files.io import indented
from distillbench.files.plaintext import visible
from distillbench.report.table import MISSING, Column, Entry, Table
from distillbench.report.tex import arrow, cell_tex, escape, head_tex

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = [
    "SUFFIXES",
    "UNICODE_ARROWS",
    "environment",
    "md_escape",
    "table_csv",
    "table_json",
    "table_md",
    "table_tex",
    "to_csv",
    "to_json",
    "write_table",
    "write_text",
]

SUFFIXES = (".tex", ".body.tex", ".csv", ".md", ".json")
_COUNTS = ("nfe", "seeds", "guidance_scale")
_FORMULA = re.compile(r"[\t\r\n]|\s*[=+\-@\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?%?")
_SCORER = re.compile(r"\((tiny|custom)\)")
UNICODE_ARROWS = {"up": "\u2191", "down": "\u2193", "": ""}


@cache
def environment() -> Environment:
    """Jinja2 over the template folder; values must come escaped for their format."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    # LaTeX is full of braces and per cents, so the templates use angle brackets. Nothing is
    # escaped here because every string arrives escaped for its format.
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"), undefined=StrictUndefined,
        block_start_string="<%", block_end_string="%>", variable_start_string="<<",
        variable_end_string=">>", comment_start_string="<#", comment_end_string="#>",
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip


def _cells(table: Table, show: Callable[[Entry, Column], str]) -> list[list[list[str]]]:
    return [
        [[show(c, col) for c, col in zip(line.cells, table.columns)] for line in lines]
        for _, lines in table.groups
    ]


def _body(table: Table, *, floats: bool = True) -> str:
    groups = zip([escape(name) for name, _ in table.groups], _cells(table, cell_tex))
    spans = [
        {"label": " ".join(filter(None, [escape(s.label), arrow(s.direction)])) if s.label else "",
         "first": s.first, "last": s.last}
        for s in table.spans
    ]  # fmt: skip
    return environment().get_template("table.body.tex.j2").render(
        caption=escape(table.caption), label=_label(table), spans=spans, floats=floats,
        align="".join(map(_align, table.columns)),
        heads=[head_tex(column) for column in table.columns], groups=list(groups),
        footnotes=[(mark, escape(text)) for mark, text in table.footnotes],
        notes=[escape(note) for note in table.notes],
    )  # fmt: skip


def table_tex(table: Table) -> tuple[str, str]:
    """A complete LaTeX document with the table, and the table alone for `\\input`."""
    body = _body(table)
    alone = "standalone.tex.j2" if table.standalone else "table.tex.j2"
    inner = _body(table, floats=False) if table.standalone else body
    document = environment().get_template(alone).render(body=inner, label=table.name)
    return document, body


def table_md(table: Table) -> str:
    """The table as Markdown, with the same text, marks and notes."""
    groups = zip([md_escape(name) for name, _ in table.groups], _cells(table, _md_cell))
    return environment().get_template("table.md.j2").render(
        title=md_escape(table.caption or table.name), groups=list(groups),
        heads=[_md_head(column) for column in table.columns],
        rules=["---" if c.kind == "field" else "---:" for c in table.columns],
        footnotes=[(m, _md_line(t)) for m, t in table.footnotes],
        notes=[_md_line(note) for note in table.notes],
    )  # fmt: skip


def table_csv(table: Table) -> str:
    """Raw values in full precision, each with its standard error and number of samples.

    A column of tiny or custom scorers says so in its name (`hps_tiny`): it stands without notes.
    The last column is what footnotes say of a line (a mean over a part of its seeds, a floor).
    """
    heads = ["group"] if any(line.group for line in table.lines) else []
    grouped = bool(heads)
    for column in table.columns:
        heads += _csv_heads(column)
    remarks = [table.remarks(line) for line in table.lines]
    told = any(remarks)
    heads += ["footnotes"] if told else []
    rows = []
    for line, remark in zip(table.lines, remarks, strict=True):
        row: list[Any] = [line.group] if grouped else []
        for cell, column in zip(line.cells, table.columns):
            row += [cell.value, cell.stderr, cell.n] if column.kind == "number" else [cell.value]
        rows.append([*row, remark] if told else row)
    return to_csv(heads, rows)


def _csv_heads(column: Column) -> list[str]:
    if column.kind != "number":
        return [column.key]
    scorer = _SCORER.search(f"{column.span} {column.label}")
    name = f"{column.key}_{scorer[1]}" if scorer else column.key
    return [name, f"{name}_stderr", f"{name}_n"]


def to_csv(heads: list[str], rows: list[list[Any]]) -> str:
    """CSV text with full-precision numbers and empty cells for None.

    Text that a spreadsheet would take for a formula (it begins with = + - @, a tab or a line end)
    gets an apostrophe before it; numbers, negative ones too, stay numbers.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([_exact(head) for head in heads])
    writer.writerows([["" if v is None else _exact(v) for v in row] for row in rows])
    return out.getvalue()


def table_json(table: Table) -> str:
    """Every cell with value, n, stderr, what the error is over, and the keys of its runs."""
    lines = [
        {
            "group": line.group,
            "ranked": line.ranked,
            "footnotes": table.remarks(line),
            "cells": {
                column.key: _json_cell(cell, column)
                for cell, column in zip(line.cells, table.columns)
            },
        }
        for line in table.lines
    ]
    return to_json(
        {
            "name": table.name,
            "caption": table.caption,
            "columns": [asdict(column) for column in table.columns],
            "rows": lines,
            "footnotes": dict(table.footnotes),
            "notes": list(table.notes),
            "protocols": {name: dict(terms) for name, terms in table.protocols.items()},
        }
    )


def to_json(value: Any) -> str:
    """Indented ASCII JSON with a final newline."""
    return indented(value, allow_nan=False) + "\n"


def write_text(path: Path, text: str) -> Path:
    """Write UTF-8 with Unix line ends on every system; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8"))
    return path


def write_table(table: Table, folder: Path) -> list[Path]:
    """Write all formats into `folder`; returns their paths."""
    document, body = table_tex(table)
    texts: Mapping[str, str] = {
        ".tex": document, ".body.tex": body, ".csv": table_csv(table), ".md": table_md(table),
        ".json": table_json(table),
    }  # fmt: skip
    return [write_text(folder / f"{table.name}{suffix}", texts[suffix]) for suffix in SUFFIXES]


def _json_cell(cell: Entry, column: Column) -> Any:
    if column.kind == "field":
        return cell.value
    whole = {"value": cell.value, "text": cell.text, "footnotes": list(cell.marks)}
    if column.kind == "published":
        return whole | {"source": cell.source}
    return whole | {
        "n": cell.n, "stderr": cell.stderr, "stderr_over": cell.stderr_over, "rank": cell.rank,
        "against": cell.against, "partial": cell.partial,
        "runs": [vars(run) for run in cell.runs],
    }  # fmt: skip


def _align(column: Column) -> str:
    return "l" if column.kind == "field" and column.key not in _COUNTS else "r"


def _label(table: Table) -> str:
    return re.sub(r"[^A-Za-z0-9.-]", "-", table.name)


def _exact(value: Any) -> Any:
    if isinstance(value, str):
        formula = _FORMULA.match(value) and not _NUMBER.fullmatch(value) and value != MISSING
        return f"'{value}" if formula else value
    return repr(value) if isinstance(value, float) else value


def md_escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    for char in "\\|*_`<[~$":
        text = text.replace(char, f"\\{char}")
    text = re.sub(r"&(?=#?\w+;)", r"\&", text)  # else an entity
    return " ".join(visible(text).split())


def _md_line(text: str) -> str:
    """A line of its own that begins no list, heading or quotation."""
    escaped = md_escape(text.replace("+-", "\u00b1"))
    return re.sub(r"^([-+#>=]|[0-9]+(?=[.)]))", _unblocked, escaped)


def _unblocked(start: re.Match[str]) -> str:
    return start[1] + "\\" if start[1].isdigit() else f"\\{start[1]}"


def _md_head(column: Column) -> str:
    parts = [column.span, column.label, UNICODE_ARROWS[column.direction]]
    return " ".join(md_escape(part) for part in parts if part)


def _md_cell(cell: Entry, column: Column) -> str:
    text = md_escape(cell.text)
    text = {1: f"**{text}**", 2: f"<u>{text}</u>"}.get(cell.rank, text)
    if cell.stderr_text:
        text += f" \u00b1 {cell.stderr_text}"
    return text + (f" ({','.join(cell.marks)})" if cell.marks else "")
