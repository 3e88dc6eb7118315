"""`distillbench calibrate`: time every kind of training, sampling and scoring on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from distillbench.cli import arguments
from distillbench.cli.common import (
    examples,
    open_experiment,
    print_json,
    require_writable,
)

__all__ = ["EPILOG", "calibrate"]

EPILOG = examples(
    "distillbench calibrate experiments/table1.yaml --profile paper",
    "distillbench calibrate experiments/smoke.yaml --updates 20 --only method=tdm",
)


def calibrate(
    file: arguments.File,
    profile: arguments.Profile = None,
    results: arguments.Results = Path("results"),
    sets: arguments.Set = None,
    max_cells: arguments.MaxCells = None,
    only: arguments.Only = "",
    gpus: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="0 times the processor. [default: a GPU]")
    ] = None,
    updates: Annotated[
        int, typer.Option(min=3, help="Updates, or about so many samples, to time.")
    ] = 10,
    plugin: arguments.Plugin = None,
    json: arguments.Json = False,
) -> None:
    """Time each kind of training, sampling and scoring here, so that `plan` can tell hours.

    Kinds differ in backbone, method and its settings, batch, accumulation and precision; samplings
    in their sampler, scorings in their metric. They are kept in calibration.json of the results
    folder, with the device and the versions of packages.
    """
    from distillbench.plan.build import selected
    from distillbench.plan.devices import choose_gpus
    from distillbench.run.calibrate import FILE
    from distillbench.run.calibrate import calibrate as measure

    _, whole = open_experiment(
        file, profile=profile, sets=sets, plugins=plugin, max_cells=max_cells
    )
    part = selected(whole, only)
    require_writable(results)
    device = "cuda" if choose_gpus(gpus) else "cpu"
    lines: list[str] = []
    tell = lines.append if json else print
    made = measure(part, results / FILE, device=device, updates=updates, tell=tell)
    if json:
        print_json({**made.model_dump(mode="json"), "told": lines})
    else:
        print(f"{len(made.paces)} kinds of stages on {made.device} in {results / FILE}")
