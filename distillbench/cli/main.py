"""The command `distillbench`: subcommands, exit codes, and no traceback for what a user can fix.

Exit codes: 0 all done, 1 some stage failed, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import sys
import tempfile
import traceback
from collections.abc import Sequence
from typing import Annotated, Any, cast

import typer

from distillbench import __version__
from distillbench.cli import (
    agreement,
    calibrate,
    diff,
    doctor,
    env,
    export,
    gc,
    init,
    list_,
    logs,
    plan,
    run,
    sample,
    samples,
    score,
    show,
    slurm,
    study,
    table,
    validate,
)
from distillbench.cli.common import examples, print_json
from distillbench.cli.streams import guarded_output, lost, open_streams
from distillbench.errors import DistillbenchError
from distillbench.files.io import unusable_path
from distillbench.files.plaintext import visible

__all__ = ["app", "main"]

INTERRUPTED = 130

# Typer carries its own copy of click from some version on; its public class tells which is in use.
_UsageError = cast(
    "type[Exception]", next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
)

app = typer.Typer(
    name="distillbench",
    help="Train, sample, score and tabulate few-step diffusion distillation.",
    epilog=examples(
        "distillbench run experiments/quickstart.yaml",
        "distillbench plan experiments/table1.yaml --profile paper",
        "distillbench list methods",
    ),
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for name, command, epilog in (
    ("run", run.run, run.EPILOG),
    ("plan", plan.plan, plan.EPILOG),
    ("calibrate", calibrate.calibrate, calibrate.EPILOG),
    ("init", init.init, init.EPILOG),
    ("validate", validate.validate, validate.EPILOG),
    ("list", list_.list_, list_.EPILOG),
    ("show", show.show, show.EPILOG),
    ("logs", logs.logs, logs.EPILOG),
    ("table", table.table, table.EPILOG),
    ("sample", sample.sample, sample.EPILOG),
    ("samples", samples.samples, samples.EPILOG),
    ("score", score.score, score.EPILOG),
    ("export", export.export, export.EPILOG),
    ("agreement", agreement.agreement, agreement.EPILOG),
    ("study", study.study, study.EPILOG),
    ("slurm", slurm.slurm, slurm.EPILOG),
    ("diff", diff.diff, diff.EPILOG),
    ("gc", gc.gc, gc.EPILOG),
    ("doctor", doctor.doctor, doctor.EPILOG),
):
    app.command(name, epilog=epilog)(command)
app.command("report", epilog=table.REPORT_EPILOG, hidden=True)(table.report)
app.add_typer(env.app, name="env")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"distillbench {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Train, sample, score and tabulate few-step diffusion distillation."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    open_streams()
    sys.exit(run_command(list(sys.argv[1:] if argv is None else argv)))


def run_command(arguments: Sequence[str]) -> int:
    """Run one command; every way it can end becomes an exit code.

    What cannot be shown changes nothing of what a command does. Output that somebody still waits
    for (a full disk, not a reader that left) makes the exit code 1 where it would be 0, except for
    `run`, whose exit code says whether all stages are done.
    """
    with guarded_output() as output:
        code = _run(arguments)
    if output.failure is not None and lost(output.failure):
        print(f"error: standard output: {output.failure.strerror}", file=sys.stderr)
        code = code or int(arguments[:1] != ["run"])
    return code


def _run(arguments: Sequence[str]) -> int:
    try:
        code = app(args=list(arguments), prog_name="distillbench", standalone_mode=False)
        return int(code or 0)
    except typer.Exit as ended:
        return ended.exit_code
    except _UsageError as error:
        usage: Any = error
        usage.show()
        return int(usage.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        print("interrupted; the same command resumes", file=sys.stderr)
        return INTERRUPTED
    except DistillbenchError as error:
        return _reported(error, "--json" in arguments)
    except Exception as error:
        known = unusable_path(error)
        return _crashed(error) if known is None else _reported(known, "--json" in arguments)


def _reported(error: DistillbenchError, as_json: bool) -> int:
    """Say an error in its own lines."""
    lines = error.line.splitlines()
    if as_json:
        print_json({"ok": False, "exit_code": error.exit_code, "errors": lines})
    for line in lines:
        print(f"error: {visible(line)}", file=sys.stderr)
    return error.exit_code


def _crashed(error: Exception) -> int:
    """A defect of ours or of a plug-in: one line, and the traceback in a file."""
    with tempfile.NamedTemporaryFile(
        "w", prefix="distillbench-", suffix=".log", delete=False, encoding="utf-8"
    ) as log:
        traceback.print_exception(error, file=log)
    what = f"{type(error).__name__}: {' '.join(str(error).split())}"
    print(f"internal error: {what} (traceback in {log.name})", file=sys.stderr)
    return 1


if __name__ == "__main__":
    main()
