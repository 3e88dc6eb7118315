"""Trainings that stand on other trainings: a run names the one it took as teacher by its key."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distillbench.api.samplers import from_recipe
from distillbench.errors import ArtifactError
from distillbench.specs.stages import PLACED
from distillbench.specs.stored import StoredStage
from distillbench.specs.trained import Lineage

__all__ = ["SampledRow", "placed_part", "sampled_rows", "teacher_runs"]

_WHICH = re.compile(r" \S+ nfe \d+( after \d+)? seed \d+$")
"""What the label of a sample stage says behind that of its row."""


@dataclass(frozen=True)
class SampledRow:
    """A row as it was sampled: its label, the key of a sample stage of it, and its recipe.

    Attributes:
        placed: what of its spec says what it is sampled with beside the student's own weights.
        told: what its stage was told beside the spec, and how many samples it drew.
    """

    label: str
    key: str
    sampler: Mapping[str, Any]
    placed: Mapping[str, Any] = field(default_factory=dict)
    told: Mapping[str, Any] = field(default_factory=dict)

    @property
    def nfe(self) -> int:
        """Network evaluations of the recipe."""
        return from_recipe(self.sampler).nfe


def sampled_rows(folder: Path) -> list[SampledRow]:
    """The rows that the student of a training was sampled for, in a store; each recipe once."""
    folder = folder.resolve()
    found: dict[str, SampledRow] = {}
    for path in sorted(folder.parent.parent.glob("sample/*/spec.json")):
        try:
            text = path.read_text(encoding="utf-8")
            if folder.name not in text or "." in path.parent.name:
                continue
            stage = StoredStage.of(json.loads(text), path)
            if stage.glance.train != folder.name or stage.glance.sampler is None:
                continue
            label = _WHICH.sub("", stage.label)
            placed = placed_part(stage.spec)
            told = {**stage.runtime.model_dump(), "n": stage.glance.prompts.n}
            row = SampledRow(label, path.parent.name, stage.glance.sampler, placed, told)
            recipe = json.dumps([row.sampler, placed], sort_keys=True)
            found.setdefault(f"{label} {recipe}", row)
        except (OSError, ValueError, ArtifactError):
            continue  # damage of samples is told where they are used
    return list(found.values())


def placed_part(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of samples that say what a student is sampled with beside its own weights."""
    return {name: spec[name] for name in PLACED if spec.get(name)}


def teacher_runs(folder: Path) -> list[Path]:
    """Folders of the run a training took as teacher, of that run's teacher, and so on.

    Runs lie side by side, so a run finds its teacher by its key.

    Raises:
        ArtifactError: a recipe.json is missing, or names no run, or leads in a circle.
        BadInput: the folder is an export, not a training.
    """
    seen = [folder]
    while key := Lineage.read(seen[-1]).teacher:
        following = folder.parent / key
        if following in seen:
            raise ArtifactError(f"{seen[-1] / Lineage.file}: teacher {key!r} leads in a circle")
        seen.append(following)
    return seen[1:]
