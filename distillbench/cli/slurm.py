"""`distillbench slurm`: a job script that runs an experiment on a SLURM allocation."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from distillbench.cli import arguments
from distillbench.cli.common import examples, open_experiment, print_json
from distillbench.errors import BadInput

__all__ = ["EPILOG", "job_script", "slurm"]

EPILOG = examples(
    "distillbench slurm experiments/table1.yaml --profile paper -o job.sh",
    "distillbench slurm experiments/table1.yaml --nodes 4 --gpus 8 --sbatch partition=a100",
)
_DIRECTIVE = re.compile(r"[a-z][a-z-]*(=[^\s\"'`$;&|<>\\]+)?")
_TIME = re.compile(r"([0-9]+-)?[0-9]{1,3}(:[0-9]{2}){0,2}")
NOTICE = 300
"""Seconds before the time limit at which trainings are asked for a checkpoint."""


def slurm(
    file: arguments.File,
    profile: arguments.Profile = None,
    nodes: Annotated[int, typer.Option(metavar="N", min=1, help="Machines.")] = 1,
    gpus: Annotated[int, typer.Option(metavar="N", min=0, help="GPUs of each machine.")] = 8,
    cpus: Annotated[int, typer.Option(metavar="N", min=1, help="Cores of each machine.")] = 64,
    time: Annotated[str, typer.Option(metavar="T", help="Time limit, as sbatch has it.")] = (
        "24:00:00"
    ),
    sbatch: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="One more #SBATCH line; may be repeated."),
    ] = None,
    results: arguments.Results = Path("results"),
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", help="Where it is written.")
    ] = None,
    sets: arguments.Set = None,
    plugin: arguments.Plugin = None,
    json: arguments.Json = False,
) -> None:
    """Write a SLURM job: Ray on its nodes, requeued at its time limit and when preempted."""
    experiment, _ = open_experiment(file, profile=profile, sets=sets, plugins=plugin)
    command = ["distillbench", "run", str(file), "--results", str(results)]
    command += ["--profile", profile] if profile else []
    for option, values in (("--set", sets), ("--plugin", plugin)):
        command += [word for value in values or () for word in (option, value)]
    command += ["--gpus", str(gpus)] if nodes == 1 else []
    directives = [
        f"job-name=distillbench-{experiment.name}", f"nodes={nodes}", "ntasks-per-node=1",
        f"gpus-per-node={gpus}", f"cpus-per-task={cpus}", f"time={_time(time)}", "requeue",
        "open-mode=append", f"signal=B:USR1@{NOTICE}", *map(_directive, sbatch or ()),
    ]  # fmt: skip
    script = job_script(directives, command)
    if out is not None:
        _write(out, script)
    if json:
        print_json({"script": script, "file": str(out) if out else None})
    else:
        print(f"written to {out}; submit it with: sbatch {out}" if out else script)


def job_script(directives: Sequence[str], command: Sequence[str]) -> str:
    """The script with its #SBATCH lines and the command that runs the experiment."""
    text = (Path(__file__).parent / "slurm.sh").read_text(encoding="utf-8")
    lines = "\n".join(f"#SBATCH --{line}" for line in directives)
    return text.replace("@DIRECTIVES@", lines).replace("@COMMAND@", shlex.join(command))


def _directive(text: str) -> str:
    """An option of sbatch, without the dashes it may have been given with."""
    bare = text.removeprefix("--")
    if not _DIRECTIVE.fullmatch(bare):
        raise BadInput(f"--sbatch {text!r}: not an option of sbatch", hint="e.g. partition=a100")
    return bare


def _time(text: str) -> str:
    if not _TIME.fullmatch(text):
        raise BadInput(f"--time {text!r}: not a time limit", hint="e.g. 24:00:00 or 2-00:00:00")
    return text


def _write(out: Path, script: str) -> None:
    from distillbench.files.io import storage_guard

    with storage_guard(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(script, encoding="utf-8")
        out.chmod(0o755)
