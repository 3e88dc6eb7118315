"""report.html: one file with the tables, claims and figures of an experiment, readable offline."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillbench.report.claim_writers import HEADS, claim_texts, explanation, why
from distillbench.report.writers import UNICODE_ARROWS

if TYPE_CHECKING:
    from distillbench.report.record import Report

__all__ = ["report_html"]


def report_html(report: Report, figures: Sequence[Path]) -> str:
    """The page; `figures` are files whose .png pictures are inlined."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"), undefined=StrictUndefined,
        autoescape=True, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    pictures = [p for p in figures if p.suffix == ".png"]
    return environment.get_template("report.html.j2").render(
        title=report.experiment.title or report.experiment.name,
        name=report.experiment.name,
        facts=_facts(report),
        missing=_missing(report),
        refused=report.refused,
        tables=report.tables,
        cost=report.cost,
        verdicts=[(v, claim_texts(v, report.infos), why(v)) for v in report.verdicts],
        heads=HEADS,
        explanation=explanation(report.verdicts),
        figures=[(p.stem, base64.b64encode(p.read_bytes()).decode("ascii")) for p in pictures],
        arrows=UNICODE_ARROWS,
    )


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
        ("seeds", ", ".join(map(str, seeds))),
        ("backbones", ", ".join(backbones)),
        ("metrics", ", ".join(info.label for info in report.infos.values())),
        *stages,
    ]


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
