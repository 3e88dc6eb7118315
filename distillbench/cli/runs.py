"""Stored trainings as rows: what they are, in what they differ, and what became of them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillbench.cli.common import age_text, store_of
from distillbench.errors import ArtifactError
from distillbench.files.leaves import leaves
from distillbench.files.places import size_text
from distillbench.store.state import state_of

if TYPE_CHECKING:
    from distillbench.specs.stored import StoredStage

__all__ = ["run_rows", "shown_runs"]

_SHOWN = ("seed", "train.updates", "train.steps", "train.stop", "method.name", "backbone.name")
_UNTOLD = ("revision", "digest", "version")


def run_rows(results: Path) -> list[dict[str, Any]]:
    """One row for each training of a results folder, finished or not."""
    store = store_of(results)
    folder = store.root / "train"
    paths: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if key := path.name.split(".")[0]:
            paths.setdefault(key, []).append(path)
    records = {key: _record(own) for key, own in paths.items()}
    planned = _planned(results) if None in records.values() else {}
    differing = _differing([record.spec if record else {} for record in records.values()])
    return [
        _row(store, key, record, text)
        | ({} if record else planned.get(key, {}))
        | _files(paths[key])
        for (key, record), text in zip(records.items(), differing, strict=True)
    ]


def shown_runs(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows as a terminal has them: sizes and ages in units, without columns that are empty."""
    shown = [
        {**{k: v for k, v in row.items() if k not in ("bytes", "age_s")},
         "size": size_text(row["bytes"]), "age": age_text(row["age_s"])}
        for row in rows
    ]  # fmt: skip
    empty = [name for name in (shown[0] if shown else ()) if all(r[name] == "" for r in shown)]
    return [{k: v for k, v in row.items() if k not in empty} for row in shown]


def _record(paths: Sequence[Path]) -> StoredStage | None:
    """What the training is, by an attempt where it is not finished; None where nothing tells."""
    from distillbench.specs.stored import StoredStage

    for folder in paths:
        with suppress(ArtifactError):
            return StoredStage.read(folder / "spec.json")
    return None


def _planned(results: Path) -> dict[str, dict[str, Any]]:
    """What the plans beside the tables say of each training that has no record of its own yet."""
    from distillbench.files.io import read_json

    found: dict[str, dict[str, Any]] = {}
    for path in sorted(results.glob("*/plan.json")):
        with suppress(ArtifactError, KeyError, TypeError):
            for cell in read_json(path)["cells"]:
                label, seed = cell["label"] or cell["title"], cell["seed"]
                found[cell["train"]] = {
                    "label": f"{label} seed {seed}", "experiment": path.parent.name,
                    "method": cell["method"], "seed": seed,
                }  # fmt: skip
    return found


def _row(store: Any, key: str, record: StoredStage | None, differs: str) -> dict[str, Any]:
    from distillbench.specs.stored import Glance

    spec, state = record.glance if record else Glance(), state_of(store, "train", key)
    return {
        "run": key,
        "state": state.word,
        "label": record.label if record else "",
        "experiment": record.runtime.experiment if record else "",
        "method": spec.method.name,
        "backbone": spec.backbone.name,
        "updates": _shown(spec.settings.updates),
        "stop": _shown(spec.settings.stop),
        "seed": _shown(spec.seed),
        "differs": differs,
        "detail": state.detail,
    }


def _shown(value: int | None) -> int | str:
    return "" if value is None else value


def _differing(specs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of each training the settings in which those of its method and backbone differ."""
    flat = [dict(leaves(spec)) for spec in specs]
    groups: dict[tuple[Any, Any], list[dict[str, Any]]] = {}
    for settings in flat:
        groups.setdefault(_kind(settings), []).append(settings)
    varied = {
        kind: [n for n in dict.fromkeys(name for one in members for name in one)
               if len({str(one.get(n)) for one in members}) > 1 and _told(n)]
        for kind, members in groups.items()
    }  # fmt: skip
    return [
        " ".join(_term(name, s[name]) for name in varied[_kind(s)] if s.get(name, "") != "")
        for s in flat
    ]


def _term(name: str, value: Any) -> str:
    """A setting by the last part of its path; of a digest its beginning."""
    last = name.rpartition(".")[2]
    return f"{last}={str(value)[:8] if last.endswith('sha256') else value}"


def _kind(settings: Mapping[str, Any]) -> tuple[Any, Any]:
    return settings.get("method.name"), settings.get("backbone.name")


def _told(name: str) -> bool:
    return name not in _SHOWN and not any(word in name for word in _UNTOLD)


def _files(paths: Sequence[Path]) -> dict[str, Any]:
    """Bytes on the disk, checkpoints included, and how long ago anything of it changed."""
    stats = [f.stat() for p in paths for f in (p.rglob("*") if p.is_dir() else [p]) if f.is_file()]
    newest = max((stat.st_mtime for stat in stats), default=time.time())
    return {"bytes": sum(s.st_size for s in stats), "age_s": round(time.time() - newest)}
