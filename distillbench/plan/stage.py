"""The records a plan is made of: stages with their content keys, and the cells that need them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from distillbench.experiment.select import PLAIN, Fields

__all__ = ["Cell", "Plan", "Stage", "StageKind", "fields_of", "lineage"]

StageKind = Literal["train", "sample", "score"]


@dataclass(frozen=True)
class Stage:
    """One unit of work: everything that decides its result is in `spec`, and `key` is its hash.

    Attributes:
        kind: train | sample | score.
        key: content key, also the stage's folder name in the store.
        spec: JSON-able description; see `plan.build` for the exact fields of each kind.
        needs: keys of the stages whose output it reads.
        runtime: settings that never change a number (device, threads, save interval).
        label: short text for humans.
        cost: relative work, for ordering and progress.
    """

    kind: StageKind
    key: str
    spec: Mapping[str, Any]
    needs: tuple[str, ...] = ()
    runtime: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""
    cost: float = 1.0

    @property
    def name(self) -> str:
        """Its label, or its key where it has none."""
        return self.label or self.key

    def plugin(self, role: str) -> dict[str, Any]:
        """A plug-in of the spec ("backbone", "method", "metric") with all of its settings.

        The spec holds those that decide; see `fields`.
        """
        more = self.runtime.get("settings", {}).get(role, {})
        return {**self.spec[role], "params": {**self.spec[role]["params"], **more}}


def lineage(stage: Stage) -> str:
    """Key of the whole training whose checkpoints a stage writes and continues from."""
    return str(stage.runtime.get("lineage", stage.key))


@dataclass(frozen=True)
class Cell:
    """One point of the grid after expansion: a row (or one seed of it) and its stage keys.

    Attributes:
        row: index of the row this cell is a seed of; cells of one row are aggregated.
        label, group, method, title, backbone, nfe, seed: what a table shows.
        guidance_scale: at sampling.
        updates: student updates behind it, 0 for what is not trained.
        final: whether that is all of its training.
        tags: free labels.
        varied: the grid/zip/ablate values that made this cell, path -> value.
        ranked: False for teachers, trained ones too, which a table never ranks.
        settings: dotted path into the row -> value, defaults of its method included.
        train, sample: stage keys. scores: metric id -> score stage key.
    """

    row: int
    label: str
    group: str
    method: str
    title: str
    backbone: str
    nfe: int
    seed: int
    guidance_scale: float
    updates: int
    final: bool
    ranked: bool
    train: str
    sample: str
    scores: Mapping[str, str]
    tags: Mapping[str, Any] = field(default_factory=dict)
    varied: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What a table calls its row."""
        return self.label or self.title or self.method


def fields_of(cell: Cell) -> Fields:
    """What a run can be selected by."""
    plain = {name: getattr(cell, name) for name in (*PLAIN, "seed")} | {"label": cell.name}
    return Fields(plain, cell.tags, cell.varied, cell.settings)


@dataclass(frozen=True)
class Plan:
    """The whole grid: stages in dependency order (by key), and cells in row order.

    `notes` are oddities worth a line (a duplicate that was dropped), not errors.
    """

    name: str
    stages: Mapping[str, Stage]
    cells: tuple[Cell, ...]
    notes: tuple[str, ...] = ()
