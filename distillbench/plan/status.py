"""What a run would do: which stages are stored, which are new, and which are stale and why.

A stage is stale when the store holds its predecessor: a finished stage of the same experiment and
label, kind, backbone, method (or metric) and seed that no stage of this plan uses any more. The
reason is how their specs differ. What another experiment or another row left is no predecessor.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from distillbench.errors import ArtifactError
from distillbench.files.leaves import leaves
from distillbench.plan.stage import Plan, Stage
from distillbench.specs.stored import Glance, StoredStage

if TYPE_CHECKING:
    from distillbench.store.layout import Store

__all__ = ["StageStatus", "differences", "plan_status"]

State = Literal["cached", "new", "stale", "failed"]
_Stored = dict[tuple[Hashable, ...], dict[str, StoredStage]]
"""Label, experiment and anchor -> key -> record."""
MOST_DIFFERENCES = 6
"""More than this and two specs are strangers, not one stage before and after an edit."""


@dataclass(frozen=True)
class StageStatus:
    """One stage against the store; `reason` says why a stale or failed one has to run."""

    key: str
    state: State
    reason: str = ""


def plan_status(plan: Plan, store: Store, *, whole: Plan | None = None) -> dict[str, StageStatus]:
    """Stage key -> its status, in plan order.

    Args:
        whole: what `plan` is a selection of; what the other rows use is nobody's predecessor.
    """
    used = (whole or plan).stages
    stored: dict[str, _Stored] = {}
    found: dict[str, StageStatus] = {}
    replaced: dict[str, str] = {}
    for key, stage in plan.stages.items():
        if store.is_done(stage.kind, key):
            found[key] = StageStatus(key, "cached")
        else:
            found[key] = _status(stage, store, stored, used, found, replaced)
    return found


def _status(
    stage: Stage,
    store: Store,
    stored: dict[str, _Stored],
    used: Mapping[str, Stage],
    found: Mapping[str, StageStatus],
    replaced: dict[str, str],
) -> StageStatus:
    """Of a stage that is not done; `stored` gets the records of a kind when first asked for."""
    problem = store.problem(stage.kind, stage.key)
    if problem:
        return StageStatus(stage.key, "failed", problem)
    if stage.kind not in stored:
        stored[stage.kind] = _stored(store, stage.kind, used)
    nearest = _nearest(stage, stored[stage.kind], replaced)
    if nearest is None:
        return StageStatus(stage.key, "new")
    old, changes = nearest
    replaced[stage.key] = old
    inputs = {"train", "sample", "reference", "teacher", "init"}
    own = [c for c in changes if c.split(" ", 1)[0] not in inputs]
    upstream = [key for key in stage.needs if found[key].state == "stale"]
    causes = own or [found[upstream[0]].reason] if upstream or own else changes
    return StageStatus(stage.key, "stale", "; ".join(causes))


def _stored(store: Store, kind: str, used: Mapping[str, Stage]) -> _Stored:
    """Records of finished stages that a plan has no use for, by what a predecessor shares."""
    found: _Stored = {}
    for key in store.keys(kind, but=used):
        path = store.path(kind, key) / "spec.json"
        if path.is_file():
            with suppress(ArtifactError):  # damage is told where it is used
                record = StoredStage.read(path)
                own = record.label, record.runtime.experiment, record.glance.anchor
                found.setdefault(own, {})[key] = record
    return found


def _nearest(
    stage: Stage, stored: _Stored, replaced: Mapping[str, str]
) -> tuple[str, list[str]] | None:
    own = stage.label, stage.options.experiment, Glance.model_validate(stage.spec).anchor
    candidates = []
    for key, record in stored.get(own, {}).items():
        changes = list(differences(record.spec, stage.spec, replaced))
        if len(changes) <= MOST_DIFFERENCES:
            candidates.append((len(changes), key, changes))
    if not candidates:
        return None
    _, key, changes = min(candidates)
    return key, changes


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], replaced: Mapping[str, str] | None = None
) -> Iterator[str]:
    """`train.updates 1000 -> 2000` for every field that differs, sorted.

    Args:
        old, new: two specs.
        replaced: key of a stage of the plan -> key of its stored predecessor; a spec that needs
            the one where the other needed its predecessor has not changed in that by itself.
    """
    before, after = dict(leaves(old)), dict(leaves(new))
    for path in sorted({*before, *after}):
        was, now = before.get(path), after.get(path)
        if was != now:
            same = replaced is not None and isinstance(now, str) and replaced.get(now) == was
            yield f"{path} follows" if same else f"{path} {_shown(was)} -> {_shown(now)}"


def _shown(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 24 else f"{text[:12]}..."
