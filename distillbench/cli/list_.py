"""`distillbench list`: what is there to use, and what has been run."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from distillbench.cli.common import (
    JsonOption,
    PluginOption,
    ResultsOption,
    columns,
    examples,
    print_json,
    store_of,
    use_plugins,
)
from distillbench.errors import BadInput, PluginError

__all__ = ["EPILOG", "list_"]

EPILOG = examples(
    "distillbench list methods",
    "distillbench list metrics --json",
    "distillbench list runs --results results",
)


class Kind(StrEnum):
    """What can be listed."""

    methods = "methods"
    metrics = "metrics"
    backbones = "backbones"
    experiments = "experiments"
    runs = "runs"


def list_(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    results: ResultsOption = Path("results"),
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """List methods, metrics, backbones, experiments or finished trainings."""
    use_plugins(plugin)
    rows = _LISTERS[kind](results)
    if json:
        print_json(rows)
    elif rows:
        print(columns(list(rows[0]), [list(row.values()) for row in rows]))
    else:
        print(f"no {kind}")


def _plugins(kind: Kind) -> list[dict[str, Any]]:
    from distillbench.registry import BACKBONES, METHODS, METRICS

    describe: dict[Kind, tuple[Any, Callable[[Any], dict[str, Any]]]] = {
        Kind.methods: (METHODS, _method),
        Kind.metrics: (METRICS, _metric),
        Kind.backbones: (BACKBONES, _backbone),
    }
    registry, details = describe[kind]
    rows = []
    for name in registry.names():
        try:
            # A broken plug-in is one bad line, not the end of the list.
            rows.append(
                {"name": name, **details(registry.get(name)), "from": registry.origin(name)}
            )
        except PluginError as error:
            rows.append({"name": name, **dict.fromkeys(details(None), ""), "from": str(error)})
    return rows


def _method(cls: Any) -> dict[str, Any]:
    needs = "+".join(sorted(getattr(cls, "needs", ())))
    return {"title": getattr(cls, "title", ""), "needs": needs, "paper": getattr(cls, "paper", "")}


def _metric(cls: Any) -> dict[str, Any]:
    info = getattr(cls, "info", None)
    better = {True: "higher", False: "lower", None: "-"}[getattr(info, "higher_is_better", None)]
    modality = "+".join(sorted(getattr(info, "modality", ())))
    reference = "yes" if getattr(info, "needs_reference", False) else "no"
    label = getattr(info, "label", "")
    return {"label": label, "better": better, "scores": modality, "reference": reference}


def _backbone(cls: Any) -> dict[str, Any]:
    return {"makes": getattr(cls, "modality", "")}


def _experiments(results: Path) -> list[dict[str, Any]]:
    from distillbench.config.marks import Problems
    from distillbench.config.yaml import read_yaml

    rows = []
    for path in sorted(Path("experiments").glob("*.yaml")):
        try:
            tree = read_yaml(path, Problems())
        except BadInput as error:
            rows.append({"file": str(path), "profiles": "", "title": str(error)})
            continue
        profiles = ", ".join(tree.get("profiles") or ())
        title = tree.get("title") or tree.get("name", "")
        rows.append({"file": str(path), "profiles": profiles, "title": title})
    return rows


def _runs(results: Path) -> list[dict[str, Any]]:
    from distillbench.store.io import read_json

    store = store_of(results)
    folder = store.root / "train"
    names = {p.name.split(".")[0] for p in folder.iterdir()} if folder.is_dir() else set()
    rows = []
    for key in sorted(names):
        spec: dict[str, Any] = {}
        if store.is_done("train", key):
            spec = read_json(store.path("train", key) / "spec.json")["spec"]
        rows.append(
            {
                "run": key,
                "state": _state(store, key),
                "method": spec.get("method", {}).get("name", ""),
                "backbone": spec.get("backbone", {}).get("name", ""),
                "steps": spec.get("train", {}).get("steps", ""),
                "seed": spec.get("seed", ""),
            }
        )
    return rows


def _state(store: Any, key: str) -> str:
    if store.is_done("train", key):
        return "done"
    if store.problem("train", key):
        return "failed"
    return "running" if store.holder("train", key) else "unfinished"


_LISTERS: dict[Kind, Callable[[Path], list[dict[str, Any]]]] = {
    Kind.methods: lambda results: _plugins(Kind.methods),
    Kind.metrics: lambda results: _plugins(Kind.metrics),
    Kind.backbones: lambda results: _plugins(Kind.backbones),
    Kind.experiments: _experiments,
    Kind.runs: _runs,
}
