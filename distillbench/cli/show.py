"""`distillbench show`: one stored stage, by its key or the beginning of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from distillbench.cli import arguments
from distillbench.cli.common import columns, examples, find_run, print_json, store_of

__all__ = ["EPILOG", "show"]

EPILOG = examples(
    "distillbench list runs",
    "distillbench show 58017a9e",
    "distillbench show 58017a9ef9c54ae6e26b --json",
)


def show(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Key of a stage, or its beginning.")],
    results: arguments.Results = Path("results"),
    json: arguments.Json = False,
) -> None:
    """Show a stage's spec, cost and files."""
    kind, key = find_run(results, run)
    found = _describe(store_of(results), kind, key)
    if json:
        print_json(found)
        return
    for name in ("kind", "key", "state", "folder", "problem", "log"):
        if found[name]:
            print(f"{name:8}{found[name]}")
    for part in ("spec", "cost"):
        lines = list(_lines(found[part]))
        if lines:
            print(f"\n{part}\n" + "\n".join(f"  {line}" for line in lines))
    if found["files"]:
        print("\n" + columns(("file", "bytes"), found["files"].items()))


def _describe(store: Any, kind: str, key: str) -> dict[str, Any]:
    from distillbench.files.io import read_json

    folder = store.path(kind, key)
    done = store.is_done(kind, key)
    log = folder / "log.txt" if done else store.failure_log(kind, key)
    cost = folder / "cost.json"
    paths = sorted(p for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else []
    return {
        "kind": kind,
        "key": key,
        "state": "done" if done else "failed" if store.problem(kind, key) else "unfinished",
        "folder": str(folder) if folder.is_dir() else "",
        "problem": store.problem(kind, key) or "",
        "log": str(log) if log.is_file() else "",
        "spec": read_json(folder / "spec.json")["spec"] if done else {},
        "cost": read_json(cost) if done and cost.is_file() else {},
        "files": {str(p.relative_to(folder)): p.stat().st_size for p in paths},
    }


def _lines(value: Any, path: str = "") -> list[str]:
    if isinstance(value, dict) and value:
        return [
            line
            for key, inner in value.items()
            for line in _lines(inner, f"{path}.{key}" if path else key)
        ]
    return [f"{path}: {value}"] if path else []
