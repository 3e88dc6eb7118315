"""Trainings that stand on other trainings: a run names the one it took as teacher by its key."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distillbench.api.samplers import from_recipe
from distillbench.errors import ArtifactError, BadInput
from distillbench.files.io import read_json
from distillbench.specs.stored import StoredStage

__all__ = ["SampledRow", "sampled_rows", "teacher_runs", "training_recipe"]

_WHICH = re.compile(r" \S+ nfe \d+( after \d+)? seed \d+$")
"""What the label of a sample stage says behind that of its row."""


@dataclass(frozen=True)
class SampledRow:
    """A row as it was sampled: its label, the key of a sample stage of it, and its recipe."""

    label: str
    key: str
    sampler: Mapping[str, Any]

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
            row = SampledRow(label, path.parent.name, stage.glance.sampler)
            found.setdefault(f"{label} {json.dumps(row.sampler, sort_keys=True)}", row)
        except (OSError, ValueError, ArtifactError):
            continue  # damage of samples is told where they are used
    return list(found.values())


def teacher_runs(folder: Path) -> list[Path]:
    """Folders of the run a training took as teacher, of that run's teacher, and so on.

    Runs lie side by side, so a run finds its teacher by its key.

    Raises:
        ArtifactError: a recipe.json is missing, or names no run, or leads in a circle.
        BadInput: the folder is an export, not a training.
    """
    seen = [folder]
    while key := _teacher(seen[-1]):
        following = folder.parent / key
        if following in seen:
            raise ArtifactError(f"{seen[-1] / 'recipe.json'}: teacher {key!r} leads in a circle")
        seen.append(following)
    return seen[1:]


def training_recipe(folder: Path) -> dict[str, Any]:
    """The recipe.json of a training's folder.

    Raises:
        ArtifactError: it is missing or no JSON object.
        BadInput: it is that of an export for diffusers, which has lost what a training knows.
    """
    path = folder / "recipe.json"
    recipe = read_json(path)
    if not isinstance(recipe, dict):
        raise ArtifactError(f"{path}: truncated or altered (not an object)")
    if "pipeline" in recipe and "backbone" not in recipe:
        run = recipe.get("training")
        raise BadInput(
            f"{folder}: an export for diffusers, not the folder of a training",
            hint="run the code of its README.md" + (f", or name training {run}" if run else ""),
        )
    return recipe


def _teacher(folder: Path) -> str:
    key = training_recipe(folder).get("teacher")
    if key is None or (isinstance(key, str) and Path(key).name == key):
        return key or ""
    raise ArtifactError(f"{folder / 'recipe.json'}: teacher {key!r} is no key of a run beside it")
