"""From a file to an `Experiment`: profile, `--set` overrides, schema, and all errors at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path as FilePath
from typing import Any

from pydantic import BaseModel

from distillbench.api.registry import (
    BACKBONES,
    METHODS,
    METRICS,
    Registry,
    add_plugin,
    display_name,
)
from distillbench.errors import BadInput, PluginError
from distillbench.experiment.beside import found_beside
from distillbench.experiment.factors import merged
from distillbench.experiment.names import check_names
from distillbench.experiment.schema import CellConfig, Experiment, RowConfig
from distillbench.files.explain import validated
from distillbench.files.marks import (
    MapNode,
    Mark,
    Problems,
    SeqNode,
    did_you_mean,
    merge,
    path_text,
    set_path,
)
from distillbench.files.yaml import read_value, read_yaml

__all__ = ["DEFAULT_PROFILE", "load_experiment", "profiles_of", "with_override"]

DEFAULT_PROFILE = "tiny"
"""The profile that is applied when none is named and the file has it."""


def load_experiment(
    path: FilePath | str, *, profile: str | None = None, sets: Sequence[str] = ()
) -> Experiment:
    """Read, merge and validate an experiment file.

    Args:
        path: the YAML file.
        profile: overlay to merge over it; None is "tiny" where the file has it.
        sets: `a.b=value` overrides, applied last; values are YAML, lists are indexed by number.

    Raises:
        ConfigError: everything that is wrong with it, one line each.
        BadInput: the file cannot be read, or is not YAML.
    """
    problems = Problems()
    tree = read_yaml(FilePath(path), problems)
    check_names(tree, problems)
    written = tree
    tree, applied = _with_profile(tree, profile, problems)
    for text in sets:
        tree = with_override(tree, text, problems)
    _use_plugins(tree, FilePath(path).parent, problems)
    tree = found_beside(tree, FilePath(path).parent)
    experiment = validated(Experiment, tree, problems, owner="an experiment")
    for model, partial in _partials(tree):
        validated(model, partial, problems, owner="a row")
    _check_covered(written, problems)
    if problems.lines:
        _check_plugins(tree, problems)
        problems.raise_if_any()
    assert experiment is not None
    return experiment.written_as(tree, applied)


def profiles_of(path: FilePath | str) -> list[str]:
    """Names of a file's profiles, in file order. Raises as `load_experiment` does."""
    problems = Problems()
    profiles = read_yaml(FilePath(path), problems).get("profiles")
    problems.raise_if_any()
    return list(profiles) if isinstance(profiles, dict) else []


def _use_plugins(tree: MapNode, folder: FilePath, problems: Problems) -> None:
    """Register what `plugins` names: files beside the experiment, or seen from where it is run."""
    named = tree.get("plugins")
    for target, mark in zip(named, named.marks) if isinstance(named, SeqNode) else ():
        if not isinstance(target, str):
            continue
        beside = folder / target
        try:
            add_plugin(str(beside) if target.endswith(".py") and beside.is_file() else target)
        except PluginError as error:
            problems.add(mark, str(error).removeprefix("--plugin "))


def _check_covered(tree: MapNode, problems: Problems) -> None:
    """What the file itself says must be right, though a profile or an override replaces it."""
    own, alone = _without(tree, "profiles"), Problems()
    _rename_methods(own, alone)
    validated(Experiment, own, alone, owner="an experiment")
    told = {*problems.lines}
    problems.lines += [ln for ln in alone.lines if ": missing" not in ln and ln not in told]


# ---- profiles and overrides -----------------------------------------------------------------


def _with_profile(tree: MapNode, wanted: str | None, problems: Problems) -> tuple[MapNode, str]:
    result = _without(tree, "profiles")
    _rename_methods(result, problems)
    profiles = tree.get("profiles")
    if profiles is not None and not isinstance(profiles, MapNode):
        problems.add(tree.marks["profiles"], "a mapping of profile name to overlay is needed")
    named = profiles if isinstance(profiles, MapNode) else MapNode()
    name = wanted if wanted is not None else DEFAULT_PROFILE if DEFAULT_PROFILE in named else ""
    if not name:
        return result, ""
    if name not in named:
        has = f"the file has: {', '.join(named) or 'no profiles'}.{did_you_mean(name, named)}"
        problems.add(Mark(f"{tree.mark.source}: --profile {name}"), f"unknown profile; {has}")
        return result, ""
    for overlay in _overlays(named, name, problems):
        _rename_methods(overlay, problems)
        result = merge(result, overlay)
    result.mark = tree.mark
    return result, name


def _overlays(named: MapNode, name: str, problems: Problems) -> list[MapNode]:
    """The overlay of a profile after that of the profile it `extends`, and so on."""
    found: list[MapNode] = []
    seen: list[str] = []
    while name and name not in seen:
        overlay = named[name]
        if overlay is not None and not isinstance(overlay, MapNode):
            problems.add(named.marks[name], "a profile is a mapping, merged over the file")
        if not isinstance(overlay, MapNode):
            break
        seen.append(name)
        found.insert(0, _without(overlay, "extends"))
        name = str(overlay.get("extends", ""))
        if name in seen or (name and name not in named):
            has = f"other profiles: {', '.join(n for n in named if n not in seen) or 'none'}"
            what = f"extends {name!r}, which is {'itself' if name in seen else 'no profile'}; {has}"
            problems.add(overlay.marks["extends"], what + f".{did_you_mean(name, named)}")
            break
    return found


def _without(tree: MapNode, key: str) -> MapNode:
    copy = MapNode(tree, mark=tree.mark)
    copy.marks = dict(tree.marks)
    copy.pop(key, None)
    return copy


def _rename_methods(tree: MapNode, problems: Problems) -> None:
    """`methods` is another name for `rows`."""
    if "methods" not in tree:
        return
    if "rows" in tree:
        line = tree.marks["rows"].line
        problems.add(tree.marks["methods"], f"the same as rows (line {line}); give one of them")
    tree.put("rows", tree.pop("methods"), tree.marks.pop("methods"))


def with_override(tree: MapNode, text: str, problems: Problems) -> MapNode:
    """The data with one `a.b=value` put in; what is wrong with that is noted."""
    key, equals, value = text.partition("=")
    dotted = re.sub(r"\[(\d+)\]", r".\1", key.strip())  # rows[1].nfe, as errors write it
    parts: list[str | int] = [int(p) if p.isdecimal() else p for p in dotted.split(".")]
    if not equals or not all(part != "" for part in parts):
        problems.add(Mark(f"--set {text}"), "an override is a.b=value, e.g. base.train.updates=100")
        return tree
    parts[0] = "rows" if parts[0] == "methods" else parts[0]
    mark = Mark(f"--set {text}", path=path_text(parts))
    try:
        result = set_path(tree, parts, read_value(value, mark), mark)
        assert isinstance(result, MapNode)
    except (KeyError, BadInput) as error:
        told = str(error.args[0])
        problems.add(Mark() if told.startswith("--set ") else Mark(f"--set {text}"), told)
        return tree
    return result


# ---- what is wrong besides the schema --------------------------------------------------------


def _partials(tree: MapNode) -> Iterator[tuple[type[BaseModel], MapNode]]:
    """Entries that must fit a row: they are validated alone, so that each error shows once."""
    listed = [tree.get(key) for key in ("rows", "include")]
    rows = [row for items in listed if isinstance(items, list) for row in items]
    by_method = tree.get("for_method")
    parts = [*by_method.values()] if isinstance(by_method, dict) else []
    for holder in (*rows, tree):
        ablate = holder.get("ablate") if isinstance(holder, MapNode) else None
        for factor, items in ablate.items() if isinstance(ablate, dict) else ():
            overlay = factor.split(".")[0] not in CellConfig.model_fields
            parts += (items if isinstance(items, list) else [items]) if overlay else []
    yield from ((RowConfig, row) for row in rows if isinstance(row, MapNode))
    yield from ((CellConfig, part) for part in parts if isinstance(part, MapNode))


def _check_plugins(tree: MapNode, problems: Problems) -> None:
    """Names and parameters of plug-ins, told together with the schema's errors.

    Runs only when the schema has errors; a clean file is checked more closely as it is planned.
    """
    rows = tree.get("rows") or [MapNode()]
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, MapNode):
            _check_use(METHODS, merged(tree, row), "method", problems)
    for value in _uses(tree.get("metrics")):
        _check_use(METRICS, value, "use", problems)
    for value in _uses(tree.get("backbones")):
        _check_use(BACKBONES, value, "use", problems)


def _uses(entries: Any) -> Iterator[Any]:
    """Entries of `metrics` or `backbones`, a bare name as `{use: name}`."""
    marked: list[tuple[Any, Mark]] = []
    if isinstance(entries, MapNode):
        marked = [(value, entries.marks[key]) for key, value in entries.items()]
    elif isinstance(entries, SeqNode):
        marked = list(zip(entries, entries.marks, strict=True))
    for value, mark in marked:
        node = MapNode()
        node.put("use", value, mark)
        yield node if isinstance(value, str) else value


def _check_use(registry: Registry[Any], node: Any, key: str, problems: Problems) -> None:
    if not isinstance(node, MapNode) or not isinstance(node.get(key), str) or not node[key]:
        return
    try:
        cls = registry.get(node[key])
    except PluginError as error:
        problems.add(node.marks.get(key, node.mark), str(error))
        return
    params = node.get("params")
    if isinstance(params, MapNode):
        config: type[BaseModel] = cls.Config
        validated(config, params, problems, owner=display_name(cls))
