"""How a user's words select rows: `exclude`, `--only`, and the `where` of tables and figures.

A key is a row field (label, group, method, backbone, nfe, seed, guidance_scale), a tag, a varied
path or its last part, a parameter, or a dotted path into the row (`train.steps`). Values are
compared as written in the file; defaults of a plug-in's `Config` are not filled in.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from typing import Any

from distillbench.config.schema import CellConfig
from distillbench.errors import BadInput

__all__ = ["has_key", "known_keys", "look_up", "matches", "matches_only", "parse_only"]

_MISSING = object()
_PLAIN = ("label", "group", "method", "title", "backbone", "nfe", "seed", "guidance_scale")


def look_up(cell: Mapping[str, Any], key: str) -> Any:
    """What `key` means for a merged row; a private object when it means nothing."""
    if key in _PLAIN:
        default = getattr(_DEFAULT, key, None)
        # The default of `nfe` is a list of one, as a file may write it.
        return cell.get(key, default[0] if isinstance(default, list) else default)
    for place in ("tags", "params", "varied"):
        inside = cell.get(place)
        if isinstance(inside, Mapping) and key in inside:
            return inside[key]
    for path, value in (cell.get("varied") or {}).items():
        if path.rpartition(".")[2] == key:
            return value
    return _walk(cell, key.split("."))


def _walk(cell: Mapping[str, Any], parts: list[str]) -> Any:
    value: Any = cell
    default: Any = _DEFAULT
    for part in parts:
        fields = getattr(type(default), "model_fields", {})
        default = getattr(default, part) if part in fields else _MISSING
        value = value[part] if isinstance(value, Mapping) and part in value else default
    return value


def known_keys(cells: Iterable[Mapping[str, Any]]) -> list[str]:
    """Words that mean something for at least one row, for messages."""
    keys = dict.fromkeys(_PLAIN)
    for cell in cells:
        for place in ("tags", "params", "varied"):
            keys |= dict.fromkeys(map(str, cell.get(place) or ()))
    return list(keys)


def has_key(cells: Iterable[Mapping[str, Any]], key: str) -> bool:
    """Whether `key` means something for at least one row."""
    return any(look_up(cell, key) is not _MISSING for cell in cells)


def matches(cell: Mapping[str, Any], where: Mapping[str, Any]) -> bool:
    """Whether every key has its value, or one of its values."""
    return all(_any_same(look_up(cell, key), wanted) for key, wanted in where.items())


def _any_same(ours: Any, wanted: Any) -> bool:
    options = wanted if isinstance(wanted, list | tuple) else [wanted]
    return any(ours == option or str(ours) == str(option) for option in options)


def parse_only(text: str) -> list[tuple[str, list[str]]]:
    """`--only`: terms apart by spaces, all of which must hold.

    A term is `field=value[,value]`, or a label; both may hold `*` and `?` (which also stands for
    the space of a label): `--only 'method=tdm,lcm nfe=4'`, `--only 'TDM*'`.

    Raises:
        BadInput: a term without a field or value.
    """
    terms = []
    for term in text.split():
        field, equals, values = term.partition("=")
        if equals and not (field and values):
            raise BadInput(f"--only {text}: {term!r} is not field=value[,value]")
        terms.append((field, values.split(",")) if equals else ("label", [field]))
    if not terms:
        raise BadInput("--only: give field=value[,value] or a label, e.g. --only method=tdm")
    return terms


def matches_only(cell: Mapping[str, Any], terms: list[tuple[str, list[str]]]) -> bool:
    """Whether a row meets all terms of `--only`."""
    return all(
        any(fnmatch.fnmatchcase(str(look_up(cell, key)), glob) for glob in globs)
        for key, globs in terms
    )


_DEFAULT = CellConfig()
