"""`distillbench diff`: two runs beside each other."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from distillbench.cli import arguments
from distillbench.cli.common import columns, examples, find_run, print_json, store_of

__all__ = ["EPILOG", "diff"]

EPILOG = examples(
    "distillbench diff 58017a9e 9c54ae6e",
    "distillbench diff smoke:TDM:seed0 smoke:TDM:seed1",
    "distillbench diff 58017a9e 9c54ae6e --json",
)


def diff(
    a: arguments.Run,
    b: arguments.Run,
    results: arguments.Results = Path("results"),
    json: arguments.Json = False,
) -> None:
    """Show in what two runs differ, and what both were scored.

    Scores are those of samples with as many evaluations and the same prompts. One pair of runs says
    nothing of methods: a claim of an experiment compares these, over seeds and prompts.
    """
    from distillbench.analysis.twins import twins

    stages = [find_run(results, name) for name in (a, b)]
    found = twins(store_of(results), stages[0], stages[1])
    if json:
        print_json({"a": stages[0], "b": stages[1], **asdict(found)})
        return
    first, second = (f"{kind} {key[:8]}" for kind, key in stages)
    rows = [(path, *values) for path, values in found.spec.items()]
    print(columns(("setting", first, second), rows) if rows else "the same settings")
    if found.scores:
        head = ("score", "nfe", first, second, "difference")
        shown = [(s.metric, s.nfe or "", f"{s.a:.6g}", f"{s.b:.6g}",
                  s.problem or f"{s.b - s.a:+.4g}") for s in found.scores]  # fmt: skip
        print("\n" + columns(head, shown))
    for note in found.notes:
        print(f"note: {note}")
