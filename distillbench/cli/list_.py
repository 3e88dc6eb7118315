"""`distillbench list`: what is there to use, and what has been run."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from distillbench.cli import arguments
from distillbench.cli.common import columns, examples, print_json, use_plugins
from distillbench.cli.runs import run_rows, shown_runs
from distillbench.errors import BadInput, PluginError

__all__ = ["EPILOG", "list_"]

EPILOG = examples(
    "distillbench list methods",
    "distillbench list methods tdm",
    "distillbench list metrics --json",
    "distillbench list checkpoints",
    "distillbench list runs --results results",
)


class Listing(StrEnum):
    """What can be listed."""

    methods = "methods"
    metrics = "metrics"
    backbones = "backbones"
    checkpoints = "checkpoints"
    experiments = "experiments"
    runs = "runs"


def list_(
    kind: Annotated[Listing, typer.Argument(metavar="KIND", help=" | ".join(Listing))],
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="One plug-in, with its parameters.")
    ] = "",
    results: arguments.Results = Path("results"),
    plugin: arguments.Plugin = None,
    json: arguments.Json = False,
) -> None:
    """List methods, metrics, backbones, checkpoints, experiments or finished trainings."""
    use_plugins(plugin)
    if name:
        _show(kind, name, as_json=json)
        return
    rows = _LISTERS[kind](results)
    if json:
        print_json(rows)
    elif rows:
        shown = shown_runs(rows) if kind is Listing.runs else rows
        print(columns(list(shown[0]), [list(row.values()) for row in shown]))
    else:
        hint = "; distillbench init METHOD --backbone B writes one"
        print(f"no {kind}" + (hint if kind is Listing.experiments else ""))


def _registry(kind: Listing) -> tuple[Any, Callable[[Any], dict[str, Any]]]:
    """The registry of a kind and what a list tells of one of its classes."""
    from distillbench.api.registry import BACKBONES, METHODS, METRICS

    known: dict[Listing, tuple[Any, Callable[[Any], dict[str, Any]]]] = {
        Listing.methods: (METHODS, _method),
        Listing.metrics: (METRICS, _metric),
        Listing.backbones: (BACKBONES, _backbone),
    }
    if kind not in known:
        raise BadInput(f"list {kind}: takes no name; {', '.join(known)} do")
    return known[kind]


def _show(kind: Listing, name: str, *, as_json: bool) -> None:
    """One plug-in: what it is, and the parameters an experiment may set."""
    registry, details = _registry(kind)
    cls = registry.get(name)
    params = [_param(key, field) for key, field in cls.Config.model_fields.items()]
    about = {"name": name, **details(cls), "from": registry.origin(name)}
    if as_json:
        print_json({**about, "doc": inspect.getdoc(cls) or "", "params": params})
        return
    print("\n".join(f"{key:10}{value}" for key, value in about.items() if value))
    shared = [c for c in cls.Config.__mro__ if issubclass(c, BaseModel) and c is not BaseModel]
    for doc in _docs(cls, shared):
        print(f"\n{doc}")
    rows = [list(param.values()) for param in params]
    print(f"\n{columns(('parameter', 'type', 'default'), rows)}" if rows else "\nno parameters")


def _docs(cls: type, settings: Sequence[type[BaseModel]]) -> Iterator[str]:
    """What a plug-in says of itself, and each class of its settings that says more than before."""
    from distillbench.experiment.reference import descriptions

    if cls.__doc__:
        yield inspect.cleandoc(cls.__doc__)
    told: set[tuple[str, str]] = set()
    for part in settings:
        of_fields = set(descriptions(part).items())
        if part.__doc__ and (not of_fields or of_fields - told):
            yield inspect.cleandoc(part.__doc__)
        told |= of_fields


def _param(name: str, field: Any) -> dict[str, Any]:
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    bounds = ((sign, getattr(m, key, None)) for m in field.metadata for key, sign in signs.items())
    limits = [f"{sign} {bound}" for sign, bound in bounds if bound is not None]
    default = "(needed)" if field.is_required() else field.get_default(call_default_factory=True)
    text = ", ".join([_type(field.annotation), *limits])
    return {"param": name, "type": text, "default": default}


def _type(annotation: Any) -> str:
    """A type as an experiment's author would put it: `lora | copy`, `float | None`."""
    inner = typing.get_args(annotation)
    if typing.get_origin(annotation) is Annotated:
        return _type(inner[0])
    if typing.get_origin(annotation) is tuple:
        return f"tuple[{', '.join('...' if i is ... else _type(i) for i in inner)}]"
    if typing.get_origin(annotation) is typing.Literal:
        return " | ".join(map(str, inner))
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return " | ".join(map(_type, inner))
    return "None" if annotation is type(None) else inspect.formatannotation(annotation)


def _plugins(kind: Listing) -> list[dict[str, Any]]:
    registry, details = _registry(kind)
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
    from distillbench.files.marks import Problems
    from distillbench.files.yaml import read_yaml

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


def _checkpoints(results: Path) -> list[dict[str, Any]]:
    """The catalogue of published weights."""
    from distillbench.api.checkpoints import checkpoints

    return [
        {
            "name": entry.name,
            "for": entry.backbone,
            "kind": entry.params.get("kind", "-"),
            "nfe": " ".join(map(str, entry.nfe)),
            "sampler": entry.params.get("sampler", {}).get("kind", "-"),
            "mark": "not released" if entry.unpublished else entry.mark,
            "licence": entry.licence,
        }
        for entry in checkpoints().values()
    ]


_LISTERS: dict[Listing, Callable[[Path], list[dict[str, Any]]]] = {
    Listing.methods: lambda results: _plugins(Listing.methods),
    Listing.metrics: lambda results: _plugins(Listing.metrics),
    Listing.backbones: lambda results: _plugins(Listing.backbones),
    Listing.checkpoints: _checkpoints,
    Listing.experiments: _experiments,
    Listing.runs: run_rows,
}
