"""The notes under a table: ranks, errors, ways of measuring, and what the paper's numbers are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from distillbench.analysis.published import PublishedTable, normalise
from distillbench.analysis.references import Against
from distillbench.analysis.rows import Row
from distillbench.api.metric import MetricInfo
from distillbench.experiment.schema import ReferenceConfig
from distillbench.plan.changed import Changes
from distillbench.report.table import Line

# The metric's own name and label say nothing that the column head does not.
_UNTOLD = ("metric", "label", "version", "revision")
_DIGEST = re.compile(r"(?<![0-9a-f])[0-9a-f]{16,}(?![0-9a-f])")

__all__ = [
    "beside_others", "code_notes", "error_notes", "guidance_note", "paper_note", "plain",
    "protocol_notes", "ranking_note", "reference_note", "unranked",
]  # fmt: skip


def ranking_note(
    lines: Sequence[Line], unranked: Sequence[str], *, within_groups: bool
) -> list[str]:
    """What bold and underline mean, where there is something to rank; `unranked` is what is not."""
    if sum(line.ranked for line in lines) < 2:
        return []
    scope = " within each group" if within_groups else ""
    rows = f"; {' and '.join(unranked)} are not ranked" if unranked else ""
    return [f"Best in bold, second underlined{scope}, by displayed value{rows}."]


def unranked(rows: Sequence[Row], lines: Sequence[Line]) -> list[str]:
    """Words for what takes no part in the ranks."""
    ends = {row.first.final for row in rows}
    words = {
        "teacher rows": any(not row.first.ranked for row in rows),
        "snapshots": len(ends) == 2,
        "means over a part of the seeds": any(c.partial for line in lines for c in line.cells),
    }
    return [word for word, there in words.items() if there]


def guidance_note(rows: Sequence[Row]) -> list[str]:
    """How guided evaluations are counted, where any row is guided."""
    guided = list(dict.fromkeys(row.name for row in rows if row.evaluations > row.first.nfe))
    if not guided:
        return []
    every = all(row.evaluations > row.first.nfe for row in rows)
    whose = "all rows" if every else ", ".join(guided)
    return [
        "NFE: a guided evaluation counts as one, though it is of two branches: network evaluations "
        f"of one sample are twice the NFE for {whose} (cost table)."
    ]


def error_notes(lines: Sequence[Line], labels: Sequence[str], names: Sequence[str]) -> list[str]:
    """What each metric's error is over; `labels` are the columns' metrics, `names` the rows.

    Where the errors of one metric are over different things, the rows are named.
    """
    found: dict[str, dict[str, dict[str, None]]] = {}
    for line, name in zip(lines, names, strict=True):
        for cell, label in zip(line.cells, labels):
            if cell.stderr_over:
                what = cell.stderr_over.replace("+", " and ")
                found.setdefault(what, {}).setdefault(label, {})[name] = None
    kinds = Counter(label for by_label in found.values() for label in by_label)
    parts = []
    for what, by_label in found.items():
        shown = [label if kinds[label] == 1 else f"{label} ({', '.join(rows)})"
                 for label, rows in by_label.items()]  # fmt: skip
        parts.append(f"over {what} for {', '.join(shown)}")
    clusters = "; prompts are clusters" if any("prompts" in what for what in found) else ""
    return [f"+- one standard error: {'; '.join(parts)}{clusters}."] if parts else []


def protocol_notes(
    protocols: Mapping[str, Mapping[str, Any]], infos: Mapping[str, MetricInfo]
) -> list[str]:
    """How each metric measures."""
    notes = []
    for metric, protocol in protocols.items():
        shown = {k: _short(v) for k, v in protocol.items() if k not in _UNTOLD}
        info = infos.get(metric)
        parts = [f"in {info.unit}"] if info and info.unit else []
        parts += [f"{k} {text}" for k, text in shown.items() if text]
        caveat = info.caveat.format(n=protocol.get("n", "?")) if info and protocol else ""
        told = "; ".join(filter(None, [", ".join(parts), caveat]))
        if told:
            notes.append(f"{info.label if info else metric}: {told}.")
    return notes


def code_notes(changes: Changes, rows: Sequence[Row], metrics: Collection[str]) -> list[str]:
    """Which of the rows other code made than is here; `metrics` are those that are shown."""
    if not changes:
        return []
    cells = [cell for row in rows for cell in row.cells]
    shown = [replace(c, scores={m: c.scores[m] for m in metrics if m in c.scores}) for c in cells]
    return [f"{line}." for line in changes.lines(shown)]


def reference_note(
    label: str, sides: Sequence[tuple[str, Against]], reference: ReferenceConfig
) -> list[str]:
    """What a metric's values are distances to; `sides` are the rows', with their backbones."""
    if not sides:
        return []
    found: dict[str, dict[str, None]] = {}
    for backbone, side in sides:
        scale = side.guidance_scale
        text = f"{backbone} ({reference.nfe} evaluations, guidance {plain(scale)})"
        found.setdefault(side.key, {})[text] = None
    names = list(dict.fromkeys(" and ".join(texts) for texts in found.values()))
    noise = "each row's own noise" if reference.noise == "same" else "other noise than the rows'"
    text = f"{label}: to samples of {reference.method} of {'; '.join(names)}, from {noise}."
    if len(found) > 1:
        text += (f" These are {len(found)} references: values of one are not comparable with those "
                 "of another, and are ranked apart.")  # fmt: skip
    return [text]


def beside_others(rows: Sequence[Row], lines: Sequence[Line]) -> list[tuple[str, str]]:
    """Our row names with the keys of the published rows beside them, where the names differ."""
    found = {
        (row.name, cell.source.partition("/")[2]): None
        for row, line in zip(rows, lines, strict=True)
        for cell in line.cells if cell.source
    }  # fmt: skip
    return [
        (ours, theirs) for ours, theirs in found
        if normalise(theirs.partition(" | ")[0]) != normalise(ours)
    ]  # fmt: skip


def paper_note(published: PublishedTable | None, named: Sequence[tuple[str, str]]) -> list[str]:
    """Where the numbers of the paper come from, and that they are not on our scale.

    `named` are rows of ours, each with a row of another name that is beside it.
    """
    if published is None:
        return []
    note = f" {published.note}" if published.note else ""
    if named:
        pairs = "; ".join(f"{ours} is beside {theirs}" for ours, theirs in named)
        note += f" Rows of other names there: {pairs}."
    return [
        f"paper: as published in {published.source}, measured with other weights, prompts and "
        f"scorers; not comparable with ours in absolute terms.{note}"
    ]


def plain(value: Any) -> str:
    """A value of a row or a protocol as text."""
    if value is None or isinstance(value, bool):
        return "none" if value is None else str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _short(value: Any) -> str:
    """A protocol value as a note shows it; digests and structures are left to the JSON."""
    if value is None or value == "" or isinstance(value, (list, tuple)):
        return ""
    text = plain(value)
    return "" if _DIGEST.search(text) else text
