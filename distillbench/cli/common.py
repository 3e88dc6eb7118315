"""What the subcommands share: opening an experiment and its store, printing."""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillbench.errors import BadInput
from distillbench.files.plaintext import visible

if TYPE_CHECKING:
    from distillbench.experiment.schema import Experiment
    from distillbench.plan.stage import Plan

__all__ = [
    "age_text", "columns", "examples", "find_run", "nearest", "open_experiment", "print_json",
    "require_writable", "store_of", "use_plugins",
]  # fmt: skip


_ALLOCATIONS = 200_000


def examples(*lines: str) -> str:
    """A help epilog of copy-paste examples."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def use_plugins(targets: Sequence[str] | None) -> None:
    """Register `--plugin` modules. Raises PluginError."""
    from distillbench.api.registry import add_plugin

    for target in targets or ():
        add_plugin(target)


def open_experiment(
    file: Path,
    *,
    profile: str | None = None,
    sets: Sequence[str] | None = None,
    plugins: Sequence[str] | None = None,
    max_cells: int | None = None,
) -> tuple[Experiment, Plan]:
    """Load, check and plan an experiment file. Raises BadInput and ConfigError."""
    from distillbench.analysis.check import checked_plan
    from distillbench.experiment.load import load_experiment

    # A grid is very many small records that live as long as the command: looking for garbage among
    # them at the usual rate would take a quarter of its time.
    gc.set_threshold(_ALLOCATIONS, 20, 20)
    use_plugins(plugins)
    require_file(file)
    allowed = [f"limits.cells={max_cells}"] if max_cells else []
    experiment = load_experiment(file, profile=profile, sets=[*(sets or ()), *allowed])
    return experiment, checked_plan(experiment)


def require_file(file: Path) -> None:
    """Refuse a file that is not there, naming one that may have been meant."""
    if file.is_file():
        return
    if file.exists():
        kind = "a folder" if file.is_dir() else "not a regular file"
        raise BadInput(f"{file}: {kind}; name an experiment file (YAML)")
    from distillbench.files.marks import did_you_mean

    there = [str(p) for folder in (file.parent, Path("experiments")) for p in folder.glob("*.yaml")]
    meant = did_you_mean(file, there)
    shipped = file.parts[:1] == ("experiments",) and not there
    hint = (
        "the shipped experiments lie in the project's source, not in the package; "
        "distillbench init METHOD --backbone B writes one"
    )
    raise BadInput(f"{file}: no such file.{meant}", hint=hint if shipped else "")


def store_of(results: Path) -> Any:
    """The store of a results folder. Raises BadInput when a file is in its place."""
    from distillbench.store.layout import Store

    there = nearest(results)
    if not there.is_dir():
        raise BadInput(f"{there}: not a folder", hint="Name another with --results DIR")
    return Store(results / "store")


def nearest(path: Path) -> Path:
    """The path itself, or the first above it that exists."""
    return next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())


def require_writable(results: Path) -> None:
    """Refuse a results folder that nothing can be written to. Raises BadInput."""
    there = nearest(results)
    if not os.access(there, os.W_OK | os.X_OK):
        hint = "Mend its permissions, or name another folder with --results DIR"
        raise BadInput(f"{there}: cannot be written", hint=hint)


def find_run(results: Path, prefix: str, kind: str = "train") -> tuple[str, str]:
    """(kind, key) of the stored stage whose key begins with `prefix`.

    Of the form EXPERIMENT:ROW:seedN it is the stage of `kind` of that row; see `cli.named`.

    Raises:
        BadInput: there is none, or more than one.
    """
    if ":" in prefix:
        from distillbench.cli.named import named_stage

        return kind, named_stage(results, prefix, kind)
    root = results / "store"
    names = {
        (kind, path.name.split(".")[0])
        for kind in ("train", "sample", "score")
        for path in (root / kind).glob(f"{prefix}*")
        if path.name.split(".")[0].startswith(prefix)
    }
    if len(names) == 1:
        return names.pop()
    found = ", ".join(sorted(f"{key} ({kind})" for kind, key in names)[:5])
    if names:
        raise BadInput(f"{prefix}: means {len(names)} stages: {found}; give more digits")
    raise BadInput(
        f"{prefix}: no stage with that key in {root}", hint="distillbench list runs shows the keys"
    )


def age_text(seconds: float) -> str:
    """How long ago, in the largest unit that fits."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    json.dump(value, sys.stdout, indent=2, default=str)
    print()


def columns(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Rows as aligned text, cut to the width of the terminal when there is one."""
    table = [[visible(" ".join(str(c).split("\n"))) for c in row] for row in (head, *rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(head))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths)).rstrip() for row in table]
    if sys.stdout.isatty():
        width = os.get_terminal_size().columns
        lines = [line if len(line) <= width else f"{line[: width - 3]}..." for line in lines]
    return "\n".join(lines)
