"""Every shipped experiment plans under each of its profiles, and the docs name it."""

from __future__ import annotations

from pathlib import Path

import pytest

from distillbench.analysis.check import checked_plan
from distillbench.analysis.columns import backbone_labels
from distillbench.analysis.published import load_published
from distillbench.analysis.rows import rows_of
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


# Rows of the published tables that no row here reproduces.
NOT_OURS = {
    "tdm_table1": {"InstaFlow", "PeRFlow"},  # published weights alone, in profile paper
    "tdm_table3_training_cost": {"YOSO"},  # published weights alone, without our training
    "tdm_table5_ablation_unify": {"TDM-4Step"},  # again, as w/o unify training at 4 steps
    "hypersd_table3_unified_lora": {"SDXL"},
    "tcd_table1_coco5k": {"DPM++(2S) | SDXL | 8", "DPM++(2S) | SDXL | 20"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("file", "profile"), CASES, ids=[f"{f.stem}-{p or 'plain'}" for f, p in CASES]
)
def test_each_row_with_a_published_counterpart_names_it(file: Path, profile: str | None) -> None:
    experiment = load_experiment(file, profile=profile)
    rows, labels = rows_of(checked_plan(experiment)), backbone_labels(experiment)
    for table in experiment.tables:
        if not table.published:
            continue
        theirs, beside = load_published(table.published), {}
        for row in rows:
            names = [row.first.backbone, labels.get(row.first.backbone, "")]
            match, nfe, place = table.published_match, row.first.nfe, row.first.backbone
            found = theirs.beside(match, row.name, backbone=names, nfe=nfe)
            beside[row.name, place, nfe] = found.key if found else ""
        assert not any(key for (name, *_), key in beside.items() if "without GAN" in name)
        left = {row.key for row in theirs.rows} - set(beside.values())
        weights = profile == "paper" and theirs.stem == "tdm_table1"
        gone = () if weights else tuple(NOT_OURS.get(theirs.stem, ()))
        ours = {key for key in left if not key.startswith(gone)}

        if profile != "paper":  # one stand-in for the first backbone
            ours = {key for key in ours if key.count("|") < 2 or "SD-v1.5" in key}
        assert not ours, theirs.stem
