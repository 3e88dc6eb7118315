"""How words select rows: `where` of tables and figures, claims, `exclude` and `--only`.

A condition is a field and a value, or a list of values of which one must fit; all conditions must
hold. A field is, in this order,

    1. a row field: label, group, method, title, backbone, nfe, updates, guidance_scale; seed where
       single runs are selected (`exclude`, `--only`), seeds (their number) where rows are;
    2. a tag;
    3. a path that `grid`, `zip` or `ablate` varies, whole or by its last part: `params.lr` or `lr`;
    4. a parameter of the method: `params.steps` or `steps`;
    5. a dotted path into the row: `train.batch_size`, `sample.n`, `sampler.solver`.

Values that nobody wrote are the defaults. Numbers compare as numbers, whatever their spelling; of
texts, `*` stands for any characters and `?` for one; true, false and none are written so. A row
field that is called as a parameter that varies and has another value (`guidance_scale` beside the
teacher's `params.guidance_scale`) is refused: the path must be written.

`exclude` is applied before parameters are checked, so that it can remove what does not fit; a
`guidance_scale` that is left to the method is none there, and `sampler` holds what is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from pydantic import BaseModel

from distillbench.api.registry import METHODS
from distillbench.errors import BadInput, PluginError
from distillbench.experiment.cell_parts import TrainConfig
from distillbench.experiment.schema import CellConfig
from distillbench.files.explain import now_called
from distillbench.files.leaves import leaves
from distillbench.files.marks import did_you_mean
from distillbench.files.renamed import former_keys, former_values

__all__ = [
    "PLAIN", "Fields", "ambiguity", "drafted", "matches", "parse_only", "refusal", "same",
    "unknown",
]  # fmt: skip

PLAIN: Final = (
    "label", "group", "method", "title", "backbone", "nfe", "updates", "guidance_scale",
)  # fmt: skip
_MISSING: Final = object()
_TERM: Final = re.compile(r'(?:"[^"]*"|[^\s"])+')
_VALUE: Final = re.compile(r'(?:"[^"]*"|[^,"])+')


@dataclass(frozen=True)
class Fields:
    """What a row can be selected by, and shown by.

    Attributes:
        plain: row field -> value.
        tags: free labels.
        varied: grid, zip and ablate values, path -> value.
        settings: dotted path into the row -> value, defaults included.
    """

    plain: Mapping[str, Any]
    tags: Mapping[str, Any] = field(default_factory=dict)
    varied: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def with_field(self, name: str, value: Any) -> Fields:
        """The same with one more row field."""
        return Fields({**self.plain, name: value}, self.tags, self.varied, self.settings)

    def has(self, name: str) -> bool:
        """Whether `name` means something for this row."""
        return self._find(name) is not _MISSING

    def get(self, name: str) -> Any:
        """The value of a field; None where it means nothing."""
        found = self._find(name)
        return None if found is _MISSING else found

    def hides(self, name: str) -> str:
        """The varied parameter that a row field of another value hides, "" for none."""
        path = f"params.{name}"
        if name not in self.plain or path not in self.varied:
            return ""
        return "" if self.varied[path] == self.plain[name] else path

    def names(self) -> list[str]:
        """The words for its fields, without the dotted paths that no parameter has."""
        parameters = [p.partition(".")[2] for p in self.settings if p.startswith("params.")]
        return list(dict.fromkeys([*self.plain, *self.tags, *self.varied, *parameters]))

    def _find(self, name: str) -> Any:
        for place in (self.plain, self.tags):
            if name in place:
                return place[name]
        if path := self._varied(name):
            return self.varied[path]
        return self.settings.get(f"params.{name}", self.settings.get(name, _MISSING))

    def _varied(self, name: str) -> str:
        if name in self.varied:
            return name
        return next((path for path in self.varied if path.rpartition(".")[2] == name), "")


def drafted(tree: Mapping[str, Any], varied: Mapping[str, Any]) -> Fields:
    """Fields of a row as it is written, before it is checked; for `exclude`."""
    method, tags = str(tree.get("method", "")), tree.get("tags")
    settings = {**_cell_defaults(), **_parameter_defaults(method), **dict(leaves(tree))}
    plain = {name: _first(tree.get(name, getattr(_DEFAULT, name, None))) for name in PLAIN}
    plain["title"] = METHODS.get(method).title if method in METHODS.names() else method
    plain["updates"] = _first(tree.get("snapshots")) or settings.get("train.updates")
    return Fields(plain, tags if isinstance(tags, Mapping) else {}, varied, settings)


def _first(value: Any) -> Any:
    """Of `nfe` and `snapshots`, which may be written as lists, the one that makes this row."""
    return (value[0] if value else None) if isinstance(value, list) else value


@cache
def _cell_defaults() -> dict[str, Any]:
    return dict(leaves(_DEFAULT.model_dump(mode="json")))


def _config(method: str) -> type[BaseModel] | None:
    """The settings of a registered method; None for an unknown one."""
    try:
        config: type[BaseModel] = METHODS.get(method).Config
    except PluginError:
        return None
    return config


@cache
def _parameter_defaults(method: str) -> dict[str, Any]:
    """`params.<name>` -> default of a registered method; nothing for an unknown one."""
    config = _config(method)
    fields = config.model_fields if config else {}
    values = {name: f.get_default(call_default_factory=True, validated_data={})
              for name, f in fields.items() if not f.is_required()}  # fmt: skip
    plain = {k: v.model_dump() if isinstance(v, BaseModel) else v for k, v in values.items()}
    return {f"params.{path}": value for path, value in leaves(plain) if path}


def matches(row: Fields, conditions: Iterable[tuple[str, Any]]) -> bool:
    """Whether every field has its value, or one of its values."""
    return all(
        any(same(row.get(name), option) for option in _options(wanted))
        for name, wanted in conditions
    )


def same(ours: Any, wanted: Any) -> bool:
    """Whether a value of a row is the one that was written."""
    if isinstance(ours, bool) or isinstance(wanted, bool) or ours is None or wanted is None:
        return _text(ours) == _text(wanted)
    if isinstance(ours, int | float):
        return bool(ours == _number(wanted))
    pattern = "".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in _text(wanted))
    return ours == wanted or re.fullmatch(pattern, _text(ours), re.DOTALL) is not None


def unknown(rows: Iterable[Fields], names: Iterable[str], what: str = "field") -> str:
    """Why one of the names selects nothing in any row, and what can be named; "" when all can."""
    rows = list(rows)
    for name in names:
        if now := _now(rows, name):
            return f"{what} {name!r} {now}"
        if not any(row.has(name) for row in rows):
            known = list(dict.fromkeys(word for row in rows for word in row.names()))
            guess = did_you_mean(name, known)
            return (f"unknown {what} {name!r}; rows have: {', '.join(known)}, and dotted paths "
                    f"such as train.batch_size.{guess}")  # fmt: skip
    return ""


def ambiguity(rows: Iterable[Fields], name: str) -> str:
    """Why rows cannot be told apart by a field that hides what varies of them; "" when they can."""
    path = next(filter(None, (row.hides(name) for row in rows)), "")
    what = f"{name!r} is the row's own, and not {path!r}, which varies here; write {path!r}"
    return what if path else ""


def refusal(rows: Iterable[Fields], name: str, wanted: Any) -> str:
    """Why a condition cannot select rows, "" when it can; `wanted` is a value or a list of them."""
    rows = list(rows)
    return unknown(rows, [name]) or ambiguity(rows, name) or _former_value(rows, name, wanted)


def _now(rows: Sequence[Fields], name: str) -> str:
    """What a former spelling is called now, "" for a name that means something.

    One that is left to some methods and renamed in others is refused too, as it would pass over
    rows that it once selected.
    """
    if any(name in known for row in rows for known in (row.plain, row.tags, row.varied)):
        return ""
    former = (_former(method).get(name) for method in _methods(rows))
    return next((now_called(*now) for now in former if now), "")


def _methods(rows: Iterable[Fields]) -> Iterable[str]:
    return dict.fromkeys(str(row.plain.get("method")) for row in rows)


def _former(method: str) -> dict[str, tuple[str, str]]:
    """Former path into a row of a method -> the present one, and what else is to be said."""
    config = _config(method)
    keys = former_keys(config) if config else {}
    found = {f"params.{old}": (f"params.{new}", note) for old, (new, note) in keys.items()}
    train = former_keys(TrainConfig)
    found |= {f"train.{old}": (f"train.{new}", note) for old, (new, note) in train.items()}
    return {**keys, **found}


def _former_value(rows: Iterable[Fields], name: str, wanted: Any) -> str:
    for method in _methods(rows):
        config = _config(method)
        values = former_values(config).get(name.removeprefix("params."), {}) if config else {}
        for value in filter(values.get, map(str, _options(wanted))):
            return f"{name!r}: {value!r} {now_called(values[value])}"
    return ""


def parse_only(text: str) -> list[tuple[str, list[str]]]:
    """`--only`: conditions apart by spaces, all of which must hold.

    One is `field=value[,value]` or a label. A value with spaces or commas stands in double quotes,
    or has `?` in their place: `--only 'method=tdm,lcm nfe=4'`, `--only 'label="TDM, K = 1"'`.

    Raises:
        BadInput: a condition without a field or value, or a quote that does not close.
    """
    if text.count('"') % 2:
        raise BadInput(f"--only {text}: a double quote does not close")
    terms = []
    for term in _TERM.findall(text):
        name, equals, values = term.partition("=")
        if not equals or '"' in name:
            terms.append(("label", [term.replace('"', "")]))
        elif name and values:
            terms.append((name, [v.replace('"', "") for v in _VALUE.findall(values)]))
        else:
            raise BadInput(f"--only {text}: {term!r} is not field=value[,value]")
    if not terms:
        raise BadInput("--only: give field=value[,value] or a label, e.g. --only method=tdm")
    return terms


def _options(wanted: Any) -> Iterable[Any]:
    return wanted if isinstance(wanted, list | tuple) else [wanted]


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "none" if value is None else str(value).lower()
    return str(value)


def _number(value: Any) -> Any:
    """A written number as one, anything else as it is."""
    try:
        return value if isinstance(value, int | float) else float(str(value))
    except ValueError:
        return value


_DEFAULT: Final = CellConfig()
