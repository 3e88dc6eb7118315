"""`distillbench table`: tables, costs and claims of what is finished, without torch.

With `--report` the figures and report.html as well, which is all that a run writes at its end; the
hidden command `report` is that.
"""

from __future__ import annotations

from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distillbench.cli import arguments
from distillbench.cli.common import examples, open_experiment, print_json, store_of

if TYPE_CHECKING:
    from distillbench.report.record import Report

__all__ = ["EPILOG", "REPORT_EPILOG", "print_tables", "report", "report_json", "table"]

EPILOG = examples(
    "distillbench table experiments/smoke.yaml",
    "distillbench table experiments/smoke.yaml --report",
    "distillbench table experiments/table1.yaml --profile paper --json",
)

REPORT_EPILOG = examples("distillbench report experiments/smoke.yaml")


def table(
    file: arguments.File,
    profile: arguments.Profile = None,
    results: arguments.Results = Path("results"),
    sets: arguments.Set = None,
    max_cells: arguments.MaxCells = None,
    pages: Annotated[
        bool, typer.Option("--report", help="Draw figures/ and write report.html, too.")
    ] = False,
    plugin: arguments.Plugin = None,
    json: arguments.Json = False,
) -> None:
    """Write and show tables, costs and claims of whatever is finished; missing cells say why.

    Into the results folder of the experiment: each table and cost as .tex, .body.tex, .csv, .md and
    .json, claims.csv, .md and .json, plan.json. Figures and report.html stay as they are; --report
    makes them too, as a run does at its end.
    """
    from distillbench.report.render import build_report, write_reports, write_tables

    experiment, plan = open_experiment(
        file, profile=profile, sets=sets, plugins=plugin, max_cells=max_cells
    )
    made = build_report(experiment, plan, store_of(results))
    paths = (write_reports if pages else write_tables)(made, results / plan.name)
    if json:
        print_json(report_json(made, paths))
    else:
        print_tables(made)
        older = "" if pages else _older_pages(results / plan.name)
        print(f"written to {results / plan.name}{older}")
    made.check()


def _older_pages(outdir: Path) -> str:
    """What is said of a report that a run left there, whose numbers need not be these."""
    if not (outdir / "report.html").exists():
        return ""
    return "; figures/ and report.html there are older: --report makes them anew"


@wraps(table)
def report(**options: Any) -> None:
    """`table --report`, by the name it had."""
    table(**{**options, "pages": True})


def print_tables(report: Report) -> None:
    """Show tables and verdicts on the terminal."""
    from rich.console import Console

    from distillbench.report.console import claims_table, console_table, notes_text

    console = Console(highlight=False)
    for made in report.tables:
        console.print(console_table(made))
        console.print(notes_text(made), "")
    if report.verdicts:
        console.print(claims_table(report.verdicts, report.infos), "")
    for text in report.results.damaged():
        print(f"damaged: {text}")


def report_json(report: Report, paths: list[Path]) -> dict[str, Any]:
    """Tables, verdicts and written files as JSON."""
    from dataclasses import asdict

    return {
        "tables": [asdict(made) for made in report.tables],
        "claims": [asdict(verdict) for verdict in report.verdicts],
        "refused": dict(report.refused),
        "damaged": report.results.damaged(),
        "files": [str(path) for path in paths],
    }
