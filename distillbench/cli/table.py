"""`distillbench table`: tables, costs and claims of what is finished, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

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

__all__ = ["EPILOG", "print_tables", "report_json", "table"]

EPILOG = examples(
    "distillbench table experiments/smoke.yaml",
    "distillbench table experiments/table1.yaml --profile paper --json",
)


def table(
    file: FileArgument,
    profile: ProfileOption = None,
    results: ResultsOption = Path("results"),
    sets: SetOption = None,
    max_cells: MaxCellsOption = None,
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """Write and show the tables of whatever is finished; missing cells say why."""
    from distillbench.report.render import build_report, write_tables

    experiment, plan = open_experiment(
        file, profile=profile, sets=sets, plugins=plugin, max_cells=max_cells
    )
    report = build_report(experiment, plan, store_of(results))
    paths = write_tables(report, results / plan.name)
    if json:
        print_json(report_json(report, paths))
    else:
        print_tables(report)
        print(f"written to {results / plan.name}")
    report.check()


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
