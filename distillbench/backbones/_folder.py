"""The folder of a pipeline held against its family's layout; without torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distillbench.backbones._layouts import BY_PIPELINE, Component, Layout
from distillbench.backbones._rules import shown, violations
from distillbench.files.weight_files import Tensors, foreign, tensors_of, weight_files

__all__ = ["INDEX", "Folder", "read_folder", "without_index"]

INDEX = "model_index.json"
EXPORT = (
    ": an export, a student without the rest of its pipeline; to build on that student name its "
    "row as `teacher` or `init`"
)


@dataclass
class Folder:
    """What a pipeline's folder says of itself.

    Attributes:
        problems: what is not honoured, missing or damaged, one line each.
        configs: part -> its JSON file; complete where there are no problems.
        tensors: part -> names and shapes of its weights, empty for pickles.
        variants: part -> the variant of its weights to load ("" for the plain ones).
    """

    problems: list[str] = field(default_factory=list)
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    tensors: dict[str, Tensors] = field(default_factory=dict)
    variants: dict[str, str] = field(default_factory=dict)


def read_folder(path: Path, layout: Layout, variant: str) -> Folder:
    """Read every JSON file and weight header of a folder and note what is not honoured."""
    folder = Folder()
    if not (path / INDEX).is_file():
        folder.problems.append(without_index(path))
        return folder
    index = _json(path / INDEX, INDEX, folder.problems)
    if index is None:
        return folder
    folder.problems += _index_problems(index, layout)
    if folder.problems:
        return folder  # the parts of another family would only add noise
    for name, part in layout.parts.items():
        _part(folder, path / name, name, part)
        if part.anchors:
            _weights(folder, path / name, part, variant)
    used = set(folder.variants.values())
    if variant and not folder.problems and variant not in used:
        folder.problems.append(f"no weights of variant {variant!r}; leave `variant` out")
    return folder


def without_index(path: Path) -> str:
    """What a folder without model_index.json is."""
    if (path / "recipe.json").is_file() and (path / "scheduler").is_dir():
        return ("an export, a student without the rest of its pipeline; to build on that student "
                "name its row as `teacher` or `init`")  # fmt: skip
    return f"{INDEX} is missing"


def _index_problems(index: Mapping[str, Any], layout: Layout) -> Iterator[str]:
    kind = index.get("_class_name")
    if kind not in layout.pipelines:
        family = BY_PIPELINE.get(kind) if isinstance(kind, str) else None
        instead = f"use backbone {family}" if family else "no backbone reads these"
        yield f"{INDEX}: _class_name: {shown(kind)} is no {layout.pipelines[0]}; {instead}"
        return
    rest = {key: value for key, value in index.items() if key not in layout.parts
            and value != [None, None]}  # fmt: skip
    yield from violations(INDEX, rest, layout.index)
    for name, part in layout.parts.items():
        entry = index.get(name)
        if entry is None or entry == [None, None]:
            yield f"{INDEX}: {name} is missing; this family needs one"
        elif not (isinstance(entry, list) and len(entry) == 2 and entry[1] in part.classes):
            known = ", ".join(part.classes)
            flow = "FlowMatch" in str(entry) and part.file.startswith("scheduler")
            why = " is of a flow process, these networks are trained on vp" if flow else (
                " is not honoured")  # fmt: skip
            yield f"{INDEX}: {name}: {shown(entry)}{why}; allowed: {known}"


def _part(folder: Folder, path: Path, name: str, part: Component) -> None:
    file = f"{name}/{part.file}"
    config = _json(path / part.file, file, folder.problems)
    if config is None:
        return
    folder.configs[name] = config
    stated = {k: v for k, v in config.items() if k != "_class_name" or k in part.rules}
    betas = stated.get("trained_betas") is not None and part.file.startswith("scheduler")
    unneeded = ("beta_start", "beta_end", "beta_schedule") if betas else ()
    rules = {key: rule for key, rule in part.rules.items() if key in stated or key not in unneeded}
    folder.problems += violations(file, stated, rules)


def _weights(folder: Folder, path: Path, part: Component, variant: str) -> None:
    if not path.is_dir():
        return  # said already: its JSON file is missing
    files = weight_files(path)
    chosen = files.chosen(variant)
    if chosen is None:
        there = ", ".join(sorted(name or "plain" for name in files.found))
        what = f"weights come as {there}; set `variant`" if there else "no weights"
        folder.problems.append(f"{path.name}: {what}")
        return
    folder.variants[path.name] = chosen
    try:
        tensors = tensors_of(files.found[chosen])
    except ValueError as error:
        folder.problems.append(f"{path.name}: {error}")
        return
    folder.tensors[path.name] = tensors
    if what := foreign(tensors, part.anchors):
        folder.problems.append(f"{path.name}/{files.found[chosen].name}: {what}")


def _json(path: Path, name: str, problems: list[str]) -> dict[str, Any] | None:
    try:
        read = json.loads(path.read_bytes())
    except FileNotFoundError:
        export = name == INDEX and (path.parent / "recipe.json").is_file()
        problems.append(f"{name} is missing" + (EXPORT if export else ""))
    except (OSError, ValueError, RecursionError):
        problems.append(f"{name} is no readable JSON file")
    else:
        if isinstance(read, dict):
            return read
        problems.append(f"{name} holds no table of settings")
    return None
