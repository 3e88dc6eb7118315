"""Everything an experiment asks for, written into one folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distillbench.analysis.aggregate import Results
from distillbench.analysis.snapshot import StoreLike
from distillbench.analysis.verdicts import decide_claims
from distillbench.api.metric import MetricInfo
from distillbench.errors import BadInput
from distillbench.experiment.schema import Experiment
from distillbench.files.io import storage_guard
from distillbench.plan.stage import Plan
from distillbench.report.claim_writers import write_claims
from distillbench.report.cost import cost_table
from distillbench.report.curves import refused_curves
from distillbench.report.infos import metric_infos
from distillbench.report.kept import keep_samples
from distillbench.report.record import Report
from distillbench.report.table import Table
from distillbench.report.tables import build_table, tables_of
from distillbench.report.writers import SUFFIXES, to_json, write_table, write_text

__all__ = ["build_report", "plan_json", "write_plan", "write_reports", "write_tables"]

PLAN = "plan.json"


def build_report(
    experiment: Experiment,
    plan: Plan,
    store: StoreLike,
    *,
    infos: Mapping[str, MetricInfo] | None = None,
) -> Report:
    """Aggregate whatever part of the store is finished; `infos` defaults to the plug-ins' own."""
    results = Results(plan, store)
    shown = metric_infos(experiment) if infos is None else infos
    tables: list[Table] = []
    refused: dict[str, str] = {}
    for config in tables_of(experiment):
        try:
            tables.append(build_table(config, experiment, results, shown))
        except BadInput as error:
            refused[config.name] = error.line
    refused |= refused_curves(experiment, results, shown)
    return Report(
        experiment=experiment,
        results=results,
        infos=shown,
        tables=tuple(tables),
        cost=cost_table(experiment, results),
        verdicts=tuple(decide_claims(experiment, results, shown)),
        refused=refused,
    )


def write_tables(report: Report, outdir: Path, *, planned: bool = False) -> list[Path]:
    """Write tables, costs, claims and the plan, without torch; returns the paths.

    Args:
        planned: `write_plan` has written the plan there.

    Files that an earlier run left for a table that is now refused are removed: they would pass
    for today's.
    """
    paths = [path for table in report.tables for path in write_table(table, outdir)]
    paths += write_table(report.cost, outdir)
    if report.verdicts:
        paths += write_claims(report.verdicts, report.infos, outdir)
    asked = {config.name for config in tables_of(report.experiment)}
    for name in report.refused.keys() & asked:
        for suffix in SUFFIXES:
            (outdir / f"{name}{suffix}").unlink(missing_ok=True)
    plan = outdir / PLAN if planned else write_plan(report.results.plan, outdir)
    return [*paths, plan]


def write_plan(plan: Plan, outdir: Path) -> Path:
    """Write plan.json, which says what the experiment uses; returns its path.

    Raises:
        StorageError: `outdir` cannot be written.
    """
    with storage_guard(outdir):
        return write_text(outdir / PLAN, to_json(plan_json(plan)))


def write_reports(report: Report, outdir: Path, *, planned: bool = False) -> list[Path]:
    """Write everything the experiment asks for, with figures and report.html; returns the paths.

    Last come the samples of rows that keep them as files.

    Args:
        planned: `write_plan` has written the plan there.

    Raises:
        BadInput: videos are to be kept as MP4, and PyAV is not installed.
        StorageError: `outdir` cannot be written.
    """
    from distillbench.report.figures import draw_figures
    from distillbench.report.html import report_html

    with storage_guard(outdir):
        paths = write_tables(report, outdir, planned=planned)
        figures = draw_figures(report, outdir / "figures")
        html = write_text(outdir / "report.html", report_html(report, figures, outdir))
        kept = keep_samples(report, outdir / "samples")
    return [*paths, *figures, html, *kept]


def plan_json(plan: Plan) -> dict[str, Any]:
    """The plan as JSON: what decides numbers, and nothing about where it ran."""
    stages = [
        {"key": s.key, "kind": s.kind, "label": s.label, "needs": list(s.needs), "spec": s.spec}
        for s in plan.stages.values()
    ]
    cells = [
        vars(cell) | {name: dict(getattr(cell, name)) for name in ("scores", "tags", "varied")}
        for cell in plan.cells
    ]
    return {"name": plan.name, "stages": stages, "cells": cells}
