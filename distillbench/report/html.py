"""report.html: one file with everything an experiment found, readable without a network.

Tables, claims and figures are plain HTML; plots and samples are drawn by the page's own script
(`page/assets`) from JSON in the page. Text of experiments is escaped where it enters, and the
page's policy lets no other script run.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillbench.report.claim_writers import HEADS, claim_texts, explanation, why
from distillbench.report.page.build import asset, embedded, page_data, script, script_hash
from distillbench.report.page.pictures import SIDE
from distillbench.report.page.provenance import provenance_facts, run_keys
from distillbench.report.table import Span, Table
from distillbench.report.writers import UNICODE_ARROWS

if TYPE_CHECKING:
    from distillbench.report.record import Report

__all__ = ["report_html"]

LONG = 60
"""Lines of a table from which on the page shows the first of them, and the others when asked."""


def report_html(report: Report, figures: Sequence[Path], outdir: Path) -> str:
    """The page; `figures` are files whose .png pictures are inlined.

    Pictures that are too large for the page are written to `outdir`/report_pictures.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"), undefined=StrictUndefined,
        autoescape=True, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    pictures = [p for p in figures if p.suffix == ".png"]
    data = page_data(report, outdir)
    return environment.get_template("report.html.j2").render(
        title=report.experiment.title or report.experiment.name,
        name=report.experiment.name,
        facts=_facts(report),
        missing=_missing(report),
        refused=report.refused,
        tables=report.tables,
        cost=report.cost,
        folds=_folds,
        kept=_kept,
        long=lambda table: len(table.lines) > LONG,
        verdicts=[(v, claim_texts(v, report.infos), why(v)) for v in report.verdicts],
        forest=any(claim["difference"] is not None for claim in data["claims"]),
        heads=HEADS,
        explanation=explanation(report.verdicts),
        parts=_parts(data),
        part_notes={"tradeoff": _device_note(report), "samples": _sample_notes(data)},
        figures=[(p.stem, base64.b64encode(p.read_bytes()).decode("ascii")) for p in pictures],
        arrows=UNICODE_ARROWS,
        provenance=provenance_facts(report.results),
        keys=run_keys(report.results),
        styles=Markup(asset("page.css")),
        script=Markup(script()),
        script_hash=script_hash(),
        data=Markup(embedded(data)),
    )


def _folds(table: Table) -> frozenset[int]:
    """Columns of single categories, which stand folded beside their average."""
    spans = (range(span.first - 1, span.last) for span in table.spans if span.label)
    return frozenset(
        place
        for span in spans
        if any(table.columns[place].label == "Average" for place in span)
        for place in span
        if not _is_average(table, place)
    )


def _is_average(table: Table, place: int) -> bool:
    """The average of a span, or the paper's beside it."""
    own = table.columns[place]
    shown = table.columns[place - 1] if own.kind == "published" else own
    return shown.label == "Average"


def _kept(span: Span, folded: frozenset[int]) -> int:
    """Columns of a span that are left when it is folded; 0 where nothing of it folds."""
    places = range(span.first - 1, span.last)
    hidden = sum(place in folded for place in places)
    return len(places) - hidden if hidden else 0


def _parts(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The parts that the script draws, of those there is something to draw for: (id, label)."""
    ranked = any(metric["higher"] is not None for metric in data["metrics"])
    there = {
        "tradeoff": ("quality against cost", ranked),
        "curves": ("curves", bool(data["metrics"])),
        "losses": ("training losses", bool(data["losses"])),
        "samples": ("samples", any("rows" in one for one in data["samples"])),
    }
    return [(part, label) for part, (label, shown) in there.items() if shown]


def _device_note(report: Report) -> list[str]:
    place = next(i for i, column in enumerate(report.cost.columns) if column.key == "device")
    devices = dict.fromkeys(line.cells[place].text for line in report.cost.lines)
    if len(devices) < 2:
        return []
    return [f"Measured on different devices ({', '.join(devices)}): seconds do not compare."]


def _sample_notes(data: Mapping[str, Any]) -> list[str]:
    notes = [
        f"{row['label']}: {row['why']}" for one in data["samples"] for row in one.get("missing", ())
    ]
    pictures = [p for one in data["samples"] for row in one.get("rows", ())
                for p in row["pictures"] if isinstance(p, dict)]  # fmt: skip
    if any("full" in picture for picture in pictures):
        notes.append(f"Shown at {SIDE} pixels; the whole pictures are in report_pictures/ beside "
                     "this file, and are shown where one is compared.")  # fmt: skip
    return notes


def _facts(report: Report) -> list[tuple[str, str]]:
    """The plan in a few figures."""
    plan, store = report.results.plan, report.results.store
    total = Counter(stage.kind for stage in plan.stages.values())
    done = Counter(s.kind for s in plan.stages.values() if store.is_done(s.kind, s.key))
    stages = [(f"{kind} stages", f"{done[kind]} of {count}") for kind, count in total.items()]
    seeds = sorted({cell.seed for cell in plan.cells})
    backbones = dict.fromkeys(cell.backbone for cell in plan.cells)
    return [
        ("rows", str(len(report.results.rows))),
        _named("seed", list(map(str, seeds))),
        _named("backbone", list(backbones)),
        _named("metric", [info.label for info in report.infos.values()]),
        *stages,
    ]


def _named(what: str, names: Sequence[str]) -> tuple[str, str]:
    """Names with what they are of: "seeds 0" would read as none."""
    return what if len(names) == 1 else f"{what}s", ", ".join(names)


def _missing(report: Report) -> Mapping[str, str]:
    """Stages without a result whose own turn it was: label -> why."""
    results: Any = report.results
    found: dict[str, str] = {}
    for stage in results.plan.stages.values():
        done = results.store.is_done(stage.kind, stage.key)
        ready = all(results.store.is_done(results.plan.stages[k].kind, k) for k in stage.needs)
        if not done and ready:
            found[stage.name] = results.missing_stage(stage.key)
    return found
