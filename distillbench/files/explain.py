"""Pydantic's errors in the project's words: what is wrong, what is allowed, did you mean."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from distillbench.files.marks import MapNode, Mark, Path, Problems, did_you_mean, locate, path_text
from distillbench.files.renamed import former_keys, former_values

__all__ = ["now_called", "report_invalid", "validated"]

_ModelT = TypeVar("_ModelT", bound=BaseModel)
_PLAIN = frozenset({"int_type", "float_type", "bool_type", "string_type"})
_PREFIXES = ("Value error, ", "Assertion failed, ")


def _sentence(item: dict[str, Any], path: Path, model: type[BaseModel], owner: str) -> str:
    if item["type"] == "extra_forbidden":
        holder = _model_at(model, path[:-1])
        if holder and (now := former_keys(holder).get(str(path[-1]))):
            return now_called(*now)
        keys = list(holder.model_fields) if holder else []
        article = owner.partition(" ")[0] in {"a", "an", "the"}
        owner = owner[:1].upper() + owner[1:] if article else owner
        name = owner if len(path) == 1 else f"'{path_text(path[:-1])}'"
        has = f"{name} has: {', '.join(keys)}" if keys else f"{name} takes no parameters"
        return f"unknown key. {has}.{_meant(str(path[-1]), holder)}"
    if item["type"] == "missing":
        return f"missing; {owner} needs it" if len(path) == 1 else "missing"
    text = str(item["msg"])
    for prefix in _PREFIXES:
        text = text.removeprefix(prefix)
    if item["type"] in {"value_error", "assertion_error"}:
        return text
    holder, given = _model_at(model, path[:-1]), str(item.get("input"))
    values = former_values(holder).get(str(path[-1]), {}) if holder else {}
    if given in values:
        return now_called(values[given], f"{given!r} was its former name")
    guess = _literal_guess(item)
    return f"{text[:1].lower()}{text[1:]}, got {_shown(item.get('input'))}.{guess}"


def _meant(key: str, holder: type[BaseModel] | None) -> str:
    """Parts of the holder that have this very key, or the nearest key of its own."""
    fields = holder.model_fields if holder else {}
    inner = {name: _inner_model(one.annotation) for name, one in fields.items()}
    parts = [name for name, model in inner.items() if model and key in model.model_fields]
    return f" It is a key of {', '.join(parts)}." if parts else did_you_mean(key, list(fields))


def now_called(name: str, note: str = "") -> str:
    """What is said of a former spelling."""
    return f"is called {name!r} now{f'; {note}' if note else ''}"


def _literal_guess(item: dict[str, Any]) -> str:
    if item["type"] not in {"literal_error", "enum"}:
        return ""
    allowed = str(item.get("ctx", {}).get("expected", "")).replace(" or ", ", ").split(", ")
    return did_you_mean(item.get("input"), [word.strip("'") for word in allowed])


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple) and len(repr(value)) > 60:
        return f"a list of {len(value)}"
    return repr(list(value) if isinstance(value, list | tuple) else value)


def _model_at(model: type[BaseModel], path: Path) -> type[BaseModel] | None:
    """The model whose keys stand at `path` below `model`; None where there is no typed model."""
    current: type[BaseModel] | None = model
    for part in path:
        if isinstance(part, int) or current is None or part not in current.model_fields:
            continue
        current = _inner_model(current.model_fields[part].annotation)
    return current


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (types.UnionType, None) and not typing.get_args(annotation):
        return None
    return next(filter(None, map(_inner_model, typing.get_args(annotation))), None)


def report_invalid(
    error: ValidationError, model: type[BaseModel], tree: Any, problems: Problems, *, owner: str
) -> None:
    """Note each error of a failed validation at the place it was written."""
    _note(error.errors(include_url=False), model, tree, problems, owner)


def _note(
    items: Iterable[Any], model: type[BaseModel], tree: Any, problems: Problems, owner: str
) -> None:
    for item in items:
        path = tuple(item["loc"])
        what = _sentence(dict(item), path, model, owner)
        mark, rest = locate(tree, path)
        # An index that is not in the data is one of a list made of a single value.
        known = [p for p in rest if isinstance(p, str) and p.isidentifier()]
        shown = path_text((mark.path, *known) if mark.path else known) if rest else mark.path
        problems.add(Mark(mark.source, mark.line, mark.col, shown or path_text(path)), what)


def validated(model: type[_ModelT], tree: Any, problems: Problems, *, owner: str) -> _ModelT | None:
    """The model made of `tree`, or None with its errors noted at their places.

    Nothing is converted but whole numbers to floats: `true` or '3' is no number, 1.0 no integer.
    """
    data = tree if tree is not None else MapNode()
    try:
        made = model.model_validate(data)
    except ValidationError as error:
        report_invalid(error, model, tree, problems, owner=owner)
        return None
    converted = _converted(model, data)
    _note(converted, model, tree, problems, owner)
    return None if converted else made


def _converted(model: type[BaseModel], data: Any) -> list[Any]:
    """What strict validation says of plain values that the lax one converted."""
    try:
        # JSON's strict mode takes lists for tuples and text for paths, as files write them.
        model.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        items = error.errors(include_url=False)
        # What a validator of the model's own made of a value is none of the author's words.
        other = {item["loc"][:1] for item in items if item["type"] not in _PLAIN}
        return [i for i in items if i["type"] in _PLAIN and i["loc"][:1] not in other]
    return []
