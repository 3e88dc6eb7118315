"""Trainings that stand on other trainings: a run names the one it took as teacher by its key."""

from __future__ import annotations

from pathlib import Path

from distillbench.errors import ArtifactError
from distillbench.store.io import read_json

__all__ = ["teacher_runs"]


def teacher_runs(folder: Path) -> list[Path]:
    """Folders of the run a training took as teacher, of that run's teacher, and so on.

    Runs lie side by side, so a run finds its teacher by its key.

    Raises:
        ArtifactError: a recipe.json is missing, or names no run, or leads in a circle.
    """
    seen = [folder]
    while key := _teacher(seen[-1]):
        following = folder.parent / key
        if following in seen:
            raise ArtifactError(f"{seen[-1] / 'recipe.json'}: teacher {key!r} leads in a circle")
        seen.append(following)
    return seen[1:]


def _teacher(folder: Path) -> str:
    recipe = read_json(folder / "recipe.json")
    key = recipe.get("teacher") if isinstance(recipe, dict) else 0
    if key is None or (isinstance(key, str) and Path(key).name == key):
        return key or ""
    raise ArtifactError(f"{folder / 'recipe.json'}: teacher {key!r} is no key of a run beside it")
