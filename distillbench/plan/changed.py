"""Finished stages that other code made than is here now: other plug-in sources, other packages.

The key of a stage holds what it was asked for, and not the code that did it; what did it is on
record in its provenance.json. Nothing here is an error: results stay, and it is said of which rows
they are.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from distillbench.errors import PluginError
from distillbench.plan.provenance import made_by
from distillbench.plan.stage import Cell, Plan, Stage, StageKind

__all__ = ["Cause", "Changes", "causes_of", "find_changes"]

PACKAGES = ("torch", "diffusers", "transformers", "peft")
MOST_NAMES = 12
"""So many rows are named in one line; JSON has them all."""


class Folders(Protocol):
    """The part of a store that is needed here."""

    def path(self, kind: StageKind, key: str) -> Path:
        """Folder of a finished stage."""
        ...


@dataclass(frozen=True)
class Cause:
    """One thing that is not what it was.

    Attributes:
        what: e.g. "method tdm" or "torch".
        was, now: beginning of the sources' digest, or version; "none" for what was not there.
        files: source files that differ, that are new or are gone.
    """

    what: str
    was: str
    now: str
    files: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """All of it in one line."""
        kind = "source of " if self.files else ""
        where = f" ({_several(self.files)})" if self.files else ""
        return f"{kind}{self.what} {self.was}, now {self.now}{where}"


@dataclass(frozen=True)
class Changes:
    """What was found of the finished stages of a plan.

    Attributes:
        causes: key of each stage that other code made -> how that differs.
        unknown: keys of stages that were made before sources were recorded.
    """

    plan: Plan
    causes: Mapping[str, tuple[Cause, ...]] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    _known: dict[tuple[str, ...], set[str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.causes or self.unknown)

    def rows(self, keys: set[str], cells: Iterable[Cell] | None = None) -> tuple[str, ...]:
        """Names of the rows that stand on any of these stages."""
        shown = self.plan.cells if cells is None else cells
        return tuple(dict.fromkeys(c.name for c in shown if self._under(c) & keys))

    def by_cause(self) -> dict[Cause, set[str]]:
        """Cause -> keys of the stages it concerns."""
        found: dict[Cause, set[str]] = {}
        for key, causes in self.causes.items():
            for cause in causes:
                found.setdefault(cause, set()).add(key)
        return found

    def lines(self, cells: Sequence[Cell] | None = None) -> list[str]:
        """One line a cause with the rows among `cells` that it concerns; by default all of them.

        Causes that concern none of them are left out.
        """
        found = [
            (f"Made by other code: {cause.line}", self.rows(keys, cells))
            for cause, keys in self.by_cause().items()
        ]
        if self.unknown:
            what = "Made before sources were recorded, so perhaps by other code"
            found.append((what, self.rows(set(self.unknown), cells)))
        return [f"{text}: {_several(rows)}" for text, rows in found if rows]

    def as_json(self) -> dict[str, Any]:
        """One record a cause, and the stages of which nothing is known."""
        changed = [
            {**asdict(cause), "rows": list(self.rows(keys)), "stages": sorted(keys)}
            for cause, keys in self.by_cause().items()
        ]
        return {"changed": changed, "unknown_origin": list(self.unknown)}

    def _under(self, cell: Cell) -> set[str]:
        """Keys of all stages that a cell's numbers come from."""
        ends = (cell.train, cell.sample, *cell.scores.values())
        if ends not in self._known:
            self._known[ends] = _closure(self.plan, ends)
        return self._known[ends]


def find_changes(plan: Plan, done: Collection[str], store: Folders) -> Changes:
    """Compare the records of the finished stages `done` with the code that is here."""
    here = _Here()
    causes: dict[str, tuple[Cause, ...]] = {}
    unknown = []
    for key in done:
        stage = plan.stages[key]
        attempts, now = _attempts(store.path(stage.kind, key)), here.of(stage)
        if attempts is None or now is None:
            continue
        found = dict.fromkeys(cause for then in attempts for cause in causes_of(then, now))
        if found:
            causes[key] = tuple(found)
        elif not all(map(_sources, attempts)):
            unknown.append(key)
    return Changes(plan, causes, tuple(unknown))


def causes_of(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[Cause]:
    """How the code of one attempt differs from that of another (both: `provenance.made_by`).

    A source that was not recorded differs from none.
    """
    found = []
    for role, plugin in sorted(now["plugins"].items()):
        record = then.get("plugins", {}).get(role, {})
        was, new = _comparable(record, plugin)
        if was != new:
            files = tuple(n for n in sorted({*was, *new}) if was.get(n) != new.get(n))
            now_all = plugin["sha256"] if "files" in record else next(iter(new.values()))
            digests = record["sha256"][:8], now_all[:8]
            found.append(Cause(f"{role} {plugin['name']}", *digests, files))
    here = now["packages"]
    versions = then.get("packages", here)
    for name in PACKAGES:
        if versions.get(name) != here.get(name):
            found.append(Cause(name, versions.get(name, "none"), here.get(name, "none")))
    return found


def _comparable(
    was: Mapping[str, Any], now: Mapping[str, Any]
) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Files of both records; older ones have the digest of the plug-in's own file alone."""
    if "files" in was:
        rooms = {_room(name) for name in was["files"]}
        then: Mapping[str, str] = was["files"]
        return then, {n: d for n, d in now["files"].items() if n in then or _room(n) in rooms}
    own = {name: d for name, d in now["files"].items() if Path(name).name == was.get("source")}
    if len(own) != 1 or "sha256" not in was:
        return {}, {}
    return {name: was["sha256"][: len(digest)] for name, digest in own.items()}, own


def _room(name: str) -> str:
    """Where a source file stands: its folder in the engine; of `api` each file is one of its own.

    Of a room that a record knows nothing of, sources were not followed when it was made. Where they
    were and none was used, the file that uses them now has changed, and tells it.
    """
    folder, slash, _ = name.partition("/")
    return name if folder == "api" else folder if slash else ""


class _Here:
    """The code that would make stages now, asked for once for all of the same plug-ins."""

    def __init__(self) -> None:
        self._known: dict[tuple[tuple[str, str], ...], dict[str, Any] | None] = {}

    def of(self, stage: Stage) -> dict[str, Any] | None:
        """None where a plug-in is not there any more, so that nothing can be compared."""
        named = tuple((role, plugin.name) for role, plugin in stage.record.plugins.items())
        if named not in self._known:
            try:
                self._known[named] = made_by(stage.record)
            except PluginError:
                self._known[named] = None
        return self._known[named]


def _attempts(folder: Path) -> list[dict[str, Any]] | None:
    """The attempts on record; None where no record is, or none that can be read."""
    try:
        found = json.loads((folder / "provenance.json").read_bytes())["attempts"]
        return [attempt for attempt in found if isinstance(attempt, dict)]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _sources(attempt: Mapping[str, Any]) -> bool:
    """Whether the sources of all its plug-ins are on record."""
    return all("files" in plugin for plugin in attempt.get("plugins", {}).values())


def _closure(plan: Plan, keys: Iterable[str]) -> set[str]:
    """The keys with those of all stages they need."""
    found: set[str] = set()
    todo = list(keys)
    while todo:
        key = todo.pop()
        if key in plan.stages and key not in found:
            found.add(key)
            todo += plan.stages[key].needs
    return found


def _several(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"{', '.join(names[:MOST_NAMES])}{more}"
