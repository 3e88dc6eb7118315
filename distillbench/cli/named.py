"""Runs by the names of an experiment: `smoke:LCM[nfe=4]:seed0`."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from distillbench.errors import ArtifactError, BadInput

__all__ = ["named_label", "named_stage"]

_ROW = re.compile(r"(?P<row>.*?)(?:\[(?P<where>[^\[\]]*)\])?(?::seed(?P<seed>[0-9]+))?")


def named_stage(results: Path, name: str, kind: str) -> str:
    """Key of the training or of the samples of EXPERIMENT:ROW, EXPERIMENT:ROW[nfe=4]:seed0.

    By the plan that lies beside the experiment's tables. A row is named by its label, title or
    method; conditions are those of a claim.

    Raises:
        BadInput: there is none, or more than one.
    """
    cells, named = _cells(results, name)
    keys = {str(cell.get(kind)): cell for cell in named}
    if len(keys) == 1:
        return next(iter(keys))
    if keys:
        what = "trainings" if kind == "train" else "sample stages"
        found = ", ".join(
            f"{key[:8]} ({_told(cell, keys.values(), kind)})" for key, cell in keys.items()
        )
        raise BadInput(f"{name}: means {len(keys)} {what}: {found}; take one of these keys")
    rows = ", ".join(dict.fromkeys(cell["label"] or cell["method"] for cell in cells))
    raise BadInput(f"{name}: no such row and seed in {name.partition(':')[0]}; its rows: {rows}")


def named_label(results: Path, name: str) -> str:
    """What a row that is named so is called in the store; "" where the name means several.

    Raises:
        BadInput: there is no such experiment.
    """
    labels = {next(filter(None, _names(cell)), "") for cell in _cells(results, name)[1]}
    return str(labels.pop()) if len(labels) == 1 else ""


def _cells(results: Path, name: str) -> tuple[list[Any], list[Any]]:
    """All cells of the experiment, and those that are named."""
    from distillbench.files.io import read_json

    experiment, _, rest = name.partition(":")
    try:
        cells = read_json(results / experiment / "plan.json")["cells"]
        row, where, seed = _asked(rest, [_names(cell) for cell in cells])
        return cells, [cell for cell in _called(cells, row) if _fits(cell, where, seed)]
    except (ArtifactError, KeyError, TypeError) as error:
        hint = "Make its tables once, or take a key of distillbench list runs"
        raise BadInput(f"{name}: no plan in {results / experiment}", hint=hint) from error


def _called(cells: list[Any], row: str) -> list[Any]:
    """Cells whose label is `row`; where none has it, those of that title or method."""
    named = ([cell for cell in cells if _names(cell)[n] == row] for n in range(3))
    return next(filter(None, named), [])


def _names(cell: Mapping[str, Any]) -> tuple[str, ...]:
    return cell["label"], cell["title"], cell["method"]


def _asked(rest: str, known: list[tuple[str, ...]]) -> tuple[str, dict[str, str], str]:
    """Row, conditions and seed; a label may hold brackets and `:seed` itself."""
    whole = re.fullmatch(r"(?P<row>.*?)(?::seed(?P<seed>[0-9]+))?", rest)
    if whole and any(whole["row"] in names for names in known):
        return whole["row"], {}, whole["seed"] or ""
    found = _ROW.fullmatch(rest)
    if found is None:
        return rest, {}, ""
    terms = [term.partition("=") for term in (found["where"] or "").split(",") if term]
    return found["row"], {n.strip(): v.strip() for n, _, v in terms}, found["seed"] or ""


def _fits(cell: Mapping[str, Any], where: Mapping[str, str], seed: str) -> bool:
    from distillbench.experiment.select import Fields, matches

    if seed not in ("", str(cell["seed"])):
        return False
    parts = [cell.get(name, {}) for name in ("tags", "varied", "settings")]
    plain = {name: value for name, value in cell.items() if not isinstance(value, Mapping)}
    return matches(Fields(plain, *parts), where.items())


def _told(cell: Mapping[str, Any], others: Collection[Mapping[str, Any]], kind: str) -> str:
    """A run by what tells it from the others: its label, what varies, its evaluations, its seed."""
    seen = [_told_apart_by(other) for other in others]
    own = _told_apart_by(cell).items()
    parts = [text for name, text in own if any(other.get(name) != text for other in seen)]
    nfe = [f"nfe {cell['nfe']}"] if kind == "sample" else []
    return ", ".join([*parts, *nfe, f"seed {cell['seed']}"])


def _told_apart_by(cell: Mapping[str, Any]) -> dict[str, str]:
    varied = cell.get("varied", {}).items()
    told = {name: f"{name.rpartition('.')[2]}={value}" for name, value in varied}
    return {"label": cell["label"] or cell["title"], **told}
