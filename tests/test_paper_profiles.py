"""Profile `paper` says what the papers did: updates of the student, rates, stages, scorers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distillbench.analysis.published import load_published
from distillbench.api import registry
from distillbench.experiment.load import load_experiment, profiles_of
from distillbench.plan.build import build_plan
from distillbench.plan.stage import Plan

ROOT = Path(__file__).resolve().parent.parent
PAPER = sorted(f for f in (ROOT / "experiments").glob("*.yaml") if "paper" in profiles_of(f))
ABLATIONS = ["table5", "table6", "table7", "table8"]
WHOLE = ("method", "train", "teacher", "backbone", "data")


def plan_of(name: str, profile: str = "paper") -> Plan:
    return build_plan(load_experiment(ROOT / "experiments" / f"{name}.yaml", profile=profile))


@pytest.fixture(scope="module")
def table1() -> Plan:
    return plan_of("table1")


def training(plan: Plan, label: str) -> Any:
    """The spec of the training behind the row of that label."""
    return plan.stages[next(c.train for c in plan.cells if c.label == label)].spec


def trainings(plan: Plan) -> Iterator[tuple[str, Any]]:
    """Method and spec of everything that is trained."""
    for stage in plan.stages.values():
        if stage.kind == "train" and stage.spec["data"]:
            yield stage.spec["method"]["name"], stage.spec


def batch(spec: Any) -> int:
    return int(spec["train"]["batch_size"] * spec["train"]["accumulate"])


@pytest.mark.parametrize(
    ("label", "updates", "size"),
    [
        ("DMD2 without GAN", 3900, 2048),  # 39,000 loop steps, R = 10
        ("DMD2", 500, 2048),  # 5,000 loop steps, R = 10
        ("DMD2 SDXL", 3800, 128),  # 19,000 loop steps, R = 5
        ("TDM", 3000, 256),
        ("TDM-unify-SFT", 20000, 256),
        ("TDM SDXL, 512 px", 1000, 64),
        ("TDM SDXL", 1000, 64),
        ("TDM PixArt", 500, 32),
        ("LCM", 4000, 72),
        ("TCD SDXL", 3000, 192),
    ],
)
def test_updates_are_the_students(table1: Plan, label: str, updates: int, size: int) -> None:
    spec = training(table1, label)
    assert (spec["train"]["updates"], batch(spec)) == (updates, size)


def test_dmd2_updates_its_fake_score_as_often_as_published(table1: Plan) -> None:
    for label, ratio, loop in (("DMD2 without GAN", 10, 39_000), ("DMD2 SDXL", 5, 19_000)):
        spec = training(table1, label)
        params = spec["method"]["params"]
        assert params["fake_updates"] == ratio
        assert spec["train"]["updates"] * ratio == loop
        backbone = registry.build_backbone("sd", {})
        turns = registry.build_method("dmd2", params, backbone).turns(0)
        assert (turns.count("fake"), turns.count("student")) == (ratio, 1)


def test_tdm_warms_its_student_alone_up() -> None:
    seen = 0
    for file in PAPER:
        for method, spec in trainings(plan_of(file.stem)):
            if method in ("tdm", "tdm_unify"):
                params = spec["method"]["params"]
                assert params["warmup_steps"] == {"student": 50, "fake": 0}
                nets = registry.build_method(
                    method, params, registry.build_backbone("sd", {})
                ).nets()
                assert nets["student"].optim.warmup_steps == 50
                assert nets["fake"].optim.warmup_steps == 0
                assert params["betas"] == [0.0, 0.999]
                seen += 1
    assert seen > 10


def test_tdm_on_pixart_starts_at_899(table1: Plan) -> None:
    cell = next(c for c in table1.cells if c.label == "TDM PixArt")
    assert training(table1, "TDM PixArt")["method"]["params"]["horizon"] == 900
    times = table1.stages[cell.sample].spec["sampler"]["timesteps"]
    assert list(times) == [899, 674, 449, 224]


def test_tdm_on_sdxl_has_two_stages(table1: Plan) -> None:
    first, second = (training(table1, n) for n in ("TDM SDXL, 512 px", "TDM SDXL"))
    cell = next(c for c in table1.cells if c.label == "TDM SDXL, 512 px")
    assert second["init"] == cell.train
    assert first["backbone"]["params"]["resolution"] == 512
    assert second["backbone"]["params"]["resolution"] is None
    assert first["method"] == second["method"]


@pytest.mark.parametrize("label", ["LCM", "LCM SDXL", "LCM PixArt"])
def test_lcm_is_fine_tuned_whole(table1: Plan, label: str) -> None:
    params = training(table1, label)["method"]["params"]
    assert params["nets"] == "copy"
    assert params["lr"] <= 8e-6


@pytest.mark.parametrize("profile", ["paper", "tiny"])
@pytest.mark.parametrize("name", ABLATIONS)
def test_ablations_are_of_the_fine_tuned_teachers_student(name: str, profile: str) -> None:
    plan, table1 = plan_of(name, profile), plan_of("table1", profile)
    tuned = next(c.train for c in plan.cells if c.label == "Base + Fine-tuning")
    assert tuned in {c.train for c in table1.cells if c.label == "Base + Fine-tuning"}
    students = [spec for method, spec in trainings(plan) if method != "sft"]
    assert students
    assert all(spec["teacher"] == tuned for spec in students)


def test_table5s_whole_method_is_table1s_very_run_on_the_tiny_world() -> None:
    plan, first = plan_of("table5", "tiny"), plan_of("table1", "tiny")
    runs = [{c.train for c in p.cells if c.label == label and c.final}
            for p, label in ((plan, "TDM-unify"), (first, "TDM-unify-SFT"))]  # fmt: skip
    assert runs[0] == runs[1]


def test_table5s_whole_method_is_table1s_run(table1: Plan) -> None:
    plan = plan_of("table5")
    (whole,) = {c.train for c in plan.cells if c.label == "TDM-unify"}
    sft = training(table1, "TDM-unify-SFT")
    ours = plan.stages[whole].spec
    assert {k: ours[k] for k in WHOLE} == {k: sft[k] for k in WHOLE}


def test_of_tdms_students_the_one_with_gan_alone_takes_pictures(table1: Plan) -> None:
    found = {c.label: training(table1, c.label) for c in table1.cells if c.method.startswith("tdm")}
    pictured = {label for label, spec in found.items() if spec["data"]["images_sha256"]}
    assert pictured == {"TDM-unify-GAN"}
    assert len(found) > 5


def test_hyper_sd_scores_clip_with_its_network() -> None:
    for name, weights in (("hypersd_table3", "openai-ViT-B-32"), ("table1", "openai-ViT-L-14")):
        experiment = load_experiment(ROOT / "experiments" / f"{name}.yaml", profile="paper")
        (clip,) = [metric for metric in experiment.metrics if metric.use == "clip"]
        assert clip.params == {"weights": weights}


@pytest.mark.parametrize(("name", "gamma"), [("tcd_table1", 0.2), ("tcd_table2", 0.2)])
def test_tcd_samples_with_its_papers_gamma(name: str, gamma: float) -> None:
    plan = plan_of(name)
    cells = [c for c in plan.cells if c.method == "tcd"]
    assert cells
    assert {plan.stages[c.sample].spec["sampler"]["gamma"] for c in cells} == {gamma}


@pytest.mark.parametrize("file", PAPER, ids=[f.stem for f in PAPER])
def test_every_paper_profile_says_where_it_comes_from(file: Path) -> None:
    text = file.read_text()
    profile = text[text.index("\n  paper:\n") :]
    assert "# " in profile or "# The published" in text


@pytest.mark.parametrize(("name", "stem"), [
    ("tcd_table1", "tcd_table1_coco5k"), ("tcd_table2", "tcd_table2_parameterisation"),
])  # fmt: skip
def test_tcds_tables_have_every_column_of_the_papers(name: str, stem: str) -> None:
    experiment = load_experiment(ROOT / "experiments" / f"{name}.yaml", profile="paper")
    (table,) = experiment.tables
    row = load_published(stem).rows[-1]
    scored = {metric.id or metric.use for metric in experiment.metrics}
    found = {hit[0] for column in table.columns if (hit := row.column(column, row.steps or 0))}
    assert found == {"fid", "image_complexity", "image_reward_x100", "pick_score"}
    assert {"fid", "image_complexity", "image_reward", "pick_score"} <= scored
