"""Every shipped experiment plans under each of its profiles, and the docs name it."""

from __future__ import annotations

from pathlib import Path

import pytest

from distillbench.analysis.check import checked_plan
from distillbench.experiment.load import load_experiment, profiles_of

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted((ROOT / "experiments").glob("*.yaml"))
CASES = [(file, profile) for file in FILES for profile in profiles_of(file) or [None]]


@pytest.mark.parametrize(
    ("file", "profile"), CASES, ids=[f"{f.stem}-{p or 'plain'}" for f, p in CASES]
)
def test_it_plans(file: Path, profile: str | None) -> None:
    experiment = load_experiment(file, profile=profile)
    plan = checked_plan(experiment)
    assert experiment.name == file.stem
    assert plan.cells
    assert all(cell.scores for cell in plan.cells)


@pytest.mark.parametrize(
    ("file", "profile"), CASES, ids=[f"{f.stem}-{p or 'plain'}" for f, p in CASES]
)
def test_the_reference_is_the_teacher_of_the_table(file: Path, profile: str | None) -> None:
    """A distance to samples of another teacher (its guidance, say) is no distance to this one."""
    experiment = load_experiment(file, profile=profile)
    if experiment.reference is None:
        return
    plan = checked_plan(experiment)
    rows: dict[str, list[dict[str, object]]] = {}
    references: dict[str, list[dict[str, object]]] = {}
    for cell in plan.cells:
        sample = plan.stages[cell.sample].spec
        if not cell.ranked:
            rows.setdefault(cell.backbone, []).append(sample["sampler"])
        for key in cell.scores.values():
            if reference := plan.stages[key].spec["reference"]:
                recipe = plan.stages[reference].spec["sampler"]
                references.setdefault(cell.backbone, []).append(recipe)
    assert references
    for backbone, recipes in references.items():
        assert all(recipe in rows[backbone] for recipe in recipes), backbone


def test_the_readme_lists_every_experiment() -> None:
    text = (ROOT / "experiments/README.md").read_text()
    missing = [file.name for file in FILES if f"`{file.name}`" not in text]
    assert not missing
