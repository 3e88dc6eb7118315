"""`distillbench table`: tables, costs and claims of what is finished, without torch.

With `--report` the figures and report.html as well; the hidden command `report` is that.
"""

from __future__ import annotations

from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distillbench.cli.common import (
    FileArgument,
    JsonOption,
    MaxCellsOption,
    PluginOption,
    ProfileOption,
    ResultsOption,
    SetOption,
    examples,
    open_experiment,
    print_json,
    store_of,
)

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
    file: FileArgument,
    profile: ProfileOption = None,
    results: ResultsOption = Path("results"),
    sets: SetOption = None,
    max_cells: MaxCellsOption = None,
    pages: Annotated[
        bool, typer.Option("--report", help="Draw the figures and write report.html, too.")
    ] = False,
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """Write and show the tables of whatever is finished; missing cells say why."""
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
        print(f"written to {results / plan.name}")
    made.check()


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
