"""Every shipped experiment plans under each of its profiles, and the docs name it."""

from __future__ import annotations

from pathlib import Path

import pytest

from distillbench.config.load import load_experiment, profiles_of
from distillbench.run.plan import build_plan

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted((ROOT / "experiments").glob("*.yaml"))
CASES = [(file, profile) for file in FILES for profile in profiles_of(file) or [None]]


@pytest.mark.parametrize(
    ("file", "profile"), CASES, ids=[f"{f.stem}-{p or 'plain'}" for f, p in CASES]
)
def test_it_plans(file: Path, profile: str | None) -> None:
    experiment = load_experiment(file, profile=profile)
    plan = build_plan(experiment)
    assert experiment.name == file.stem
    assert plan.cells
    assert all(cell.scores for cell in plan.cells)


def test_the_readme_lists_every_experiment() -> None:
    text = (ROOT / "experiments/README.md").read_text()
    missing = [file.name for file in FILES if f"`{file.name}`" not in text]
    assert not missing
