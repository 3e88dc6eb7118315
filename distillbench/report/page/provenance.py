"""Where the numbers of a report come from: dates, commits, versions, devices and run keys."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from distillbench.analysis.aggregate import Results

__all__ = ["provenance_facts", "run_keys"]


def provenance_facts(results: Results) -> list[tuple[str, str]]:
    """(what, values) over all finished stages; where they differ, how many stages have each."""
    attempts = [a for a in map(_last_attempt, _records(results)) if a]
    started = sorted(a["started"] for a in attempts if isinstance(a.get("started"), (int, float)))
    packages = dict.fromkeys(name for a in attempts for name in a.get("packages", {}))
    facts = [
        ("dates", " to ".join(dict.fromkeys(map(_date, (*started[:1], *started[-1:]))))),
        ("commit", _counted(_commit(a.get("code", {})) for a in attempts)),
        ("distillbench", _counted(a.get("code", {}).get("distillbench", "") for a in attempts)),
        ("Python", _counted(a.get("python", "") for a in attempts)),
        ("device", _counted(a.get("device", "") for a in attempts)),
        *((name, _counted(a.get("packages", {}).get(name, "") for a in attempts))
          for name in packages),
    ]  # fmt: skip
    return [(what, text) for what, text in facts if text]


def run_keys(results: Results) -> list[tuple[str, ...]]:
    """Row, NFE, seed and the keys of training, samples and scores of every run."""
    return [
        (cell.name, str(cell.nfe), str(cell.seed), cell.train, cell.sample,
         ", ".join(f"{metric} {key}" for metric, key in cell.scores.items()))
        for cell in results.plan.cells
    ]  # fmt: skip


def _records(results: Results) -> Iterable[Mapping[str, Any]]:
    """provenance.json of each finished stage of the plan; one that cannot be read is left out."""
    for stage in results.plan.stages.values():
        if results.store.is_done(stage.kind, stage.key):
            path = results.store.path(stage.kind, stage.key) / "provenance.json"
            try:
                record = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue
            if isinstance(record, dict):
                yield record


def _last_attempt(record: Mapping[str, Any]) -> Mapping[str, Any]:
    attempts: Sequence[Mapping[str, Any]] = record.get("attempts") or [{}]
    return attempts[-1]


def _commit(code: Mapping[str, Any]) -> str:
    commit = str(code.get("commit", ""))[:12]
    return f"{commit} with changes" if commit and code.get("dirty") else commit


def _counted(values: Iterable[str]) -> str:
    counts = Counter(filter(None, values))
    if len(counts) < 2:
        return "".join(counts)
    return "; ".join(f"{value} ({count} stages)" for value, count in counts.most_common())


def _date(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
