"""The records a plan is made of: stages with their content keys, and the cells that need them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from distillbench.experiment.select import PLAIN, Fields
from distillbench.specs.context import PluginRole, Runtime
from distillbench.specs.stages import AnySpec, Plugin, Spec, record_of
from distillbench.specs.stages import Kind as StageKind

__all__ = ["Cell", "Plan", "Stage", "StageKind", "fields_of", "lineage"]

_SpecT = TypeVar("_SpecT", bound=Spec)


@dataclass(frozen=True)
class Stage:
    """One unit of work: everything that decides its result is in `spec`, and `key` is its hash.

    Attributes:
        kind: train | sample | score.
        key: content key, also the stage's folder name in the store.
        spec: JSON-able, as it is hashed and stored; `read` gives its fields.
        needs: keys of the stages whose output it reads.
        runtime: JSON-able settings that never change a number; `options` has its fields.
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

    @cached_property
    def record(self) -> AnySpec:
        """The spec, typed. Raises BadInput where it is none of this version."""
        kind = record_of(self.kind, self.spec)
        return kind.read(self.spec, of=f"{self.kind} stage {self.key}")

    def read(self, kind: type[_SpecT]) -> _SpecT:
        """The spec of a stage that is known to be of a kind.

        Raises:
            BadInput: it is none of this version.
            TypeError: the stage is of another kind.
        """
        if not isinstance(self.record, kind):
            raise TypeError(f"a {self.kind} stage has no {kind.__name__}")
        return self.record

    @cached_property
    def options(self) -> Runtime:
        """The settings in `runtime`, typed. Raises BadInput where they are none of this version."""
        return Runtime.read(self.runtime, of=f"{self.kind} stage {self.key}")

    def plugin(self, role: PluginRole) -> Plugin:
        """The plug-in of a role with all of its settings."""
        return self.record.plugin(role, self.options)


def lineage(stage: Stage) -> str:
    """Key of the whole training whose checkpoints a stage writes and continues from."""
    return stage.options.lineage or stage.key


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
        train: stage key, "" for samples that were made elsewhere.
        sample: stage key. scores: metric id -> score stage key.
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
