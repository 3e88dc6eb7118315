"""`distillbench show`: one stored stage, or a checkpoint of the catalogue."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from distillbench.cli import arguments
from distillbench.cli.common import columns, examples, find_run, print_json, store_of
from distillbench.errors import BadInput

__all__ = ["EPILOG", "show"]

EPILOG = examples(
    "distillbench list runs",
    "distillbench show 58017a9e",
    "distillbench show 58017a9ef9c54ae6e26b --json",
    "distillbench show checkpoint hyper-sd15-1step",
)


def show(
    run: arguments.Run,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="With checkpoint: its name in the catalogue.")
    ] = "",
    results: arguments.Results = Path("results"),
    json: arguments.Json = False,
) -> None:
    """Show a stage's spec, cost and files; or a published checkpoint with its sources."""
    if run == "checkpoint":
        _checkpoint(name, as_json=json)
        return
    if name:
        raise BadInput(f"show takes one run, and also {name!r} was given")
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


def _checkpoint(name: str, *, as_json: bool) -> None:
    """An entry of the catalogue, as the row that it fills, with what is not checked of it."""
    from distillbench.api.checkpoints import checkpoints
    from distillbench.files.marks import did_you_mean

    known = checkpoints()
    if name not in known:
        near = did_you_mean(name, known)
        raise BadInput(f"unknown checkpoint {name!r}; see: distillbench list checkpoints.{near}")
    entry = asdict(known[name])
    if as_json:
        print_json(entry)
        return
    params = {k: v for k, v in entry.pop("params").items() if k != "note"}
    if not entry["unchecked"] and not entry["unpublished"]:
        entry["unchecked"] = "nothing, but it was not run with the real weights"
    for key, value in entry.items():
        if value:
            shown = ", ".join(map(str, value)) if isinstance(value, tuple) else value
            print(f"{key:13}{shown}")
    if params:
        print(f"\na row: {{method: pretrained, params: {{recipe: {name}}}}}, which is")
        print("\n".join(f"  {line}" for line in _lines(params)))


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
