"""`distillbench report`: everything `table` writes, with figures and report.html."""

from __future__ import annotations

from pathlib import Path

from distillbench.cli.common import (
    FileArgument,
    JsonOption,
    PluginOption,
    ProfileOption,
    ResultsOption,
    SetOption,
    examples,
    open_experiment,
    print_json,
    store_of,
)

__all__ = ["EPILOG", "report"]

EPILOG = examples(
    "distillbench report experiments/smoke.yaml",
    "distillbench report experiments/table1.yaml --profile paper --results /data/results",
)


def report(
    file: FileArgument,
    profile: ProfileOption = None,
    results: ResultsOption = Path("results"),
    sets: SetOption = None,
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """Write tables, costs, claims, figures and report.html of whatever is finished."""
    from distillbench.report.render import build_report, write_reports

    experiment, plan = open_experiment(file, profile=profile, sets=sets, plugins=plugin)
    made = build_report(experiment, plan, store_of(results))
    paths = write_reports(made, results / plan.name)
    if json:
        print_json({"files": [str(path) for path in paths], "refused": dict(made.refused)})
    else:
        print("\n".join(map(str, paths)))
    made.check()
