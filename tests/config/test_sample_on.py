"""Students carried over to other backbones, and teachers that rows are compared with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from distillbench.plan.stage import Cell, Plan

HEAD = """\
name: t
backbones: {base: {use: sd, params: {model: a/base}}, tuned: {use: sd, params: {model: a/tuned}}}
base: {backbone: base, train: {updates: 10}, data: {prompts: world-train},
       sample: {n: 16, prompts: world-eval}, nfe: 4}
metrics: [fid]
"""
ROWS = """\
rows:
  - {label: At home, method: tdm}
  - {label: Carried, method: tdm, sample_on: tuned}
  - {label: Teacher, method: teacher}
"""


def planned(plan_of: Callable[..., Plan], reference: str) -> tuple[Plan, dict[str, Cell]]:
    plan = plan_of(f"{ROWS}reference: {{method: teacher{reference}}}\n", head=HEAD)
    return plan, {cell.label: cell for cell in plan.cells}


def compared(plan: Plan, cell: Cell) -> Any:
    """The model whose teacher a row's FID is to."""
    score = plan.stages[cell.scores["fid"]]
    return plan.stages[score.spec["reference"]].plugin("backbone").params["model"]


def test_one_training_is_sampled_on_both(plan_of: Callable[..., Plan]) -> None:
    plan, rows = planned(plan_of, "")
    home, carried = rows["At home"], rows["Carried"]
    assert home.train == carried.train
    assert home.sample != carried.sample
    assert (home.backbone, carried.backbone) == ("base", "tuned")
    spec = plan.stages[carried.sample].spec
    assert spec["backbone"]["revision"] == "unpinned:a/base@main"
    assert spec["sample_on"]["revision"] == "unpinned:a/tuned@main"
    assert "sample_on" not in plan.stages[home.sample].spec
    assert plan.stages[carried.sample].plugin("sample_on").params["model"] == "a/tuned"


def test_a_row_is_compared_with_the_teacher_it_is_sampled_on(plan_of: Callable[..., Plan]) -> None:
    plan, rows = planned(plan_of, "")
    assert compared(plan, rows["At home"]) == "a/base"
    assert compared(plan, rows["Carried"]) == "a/tuned"


def test_all_rows_or_some_are_compared_with_another(plan_of: Callable[..., Plan]) -> None:
    plan, rows = planned(plan_of, ", backbone: tuned")
    assert {compared(plan, cell) for cell in rows.values()} == {"a/tuned"}
    plan, rows = planned(plan_of, ", backbone: {tuned: base}")
    assert {compared(plan, cell) for cell in rows.values()} == {"a/base"}


def test_what_cannot_be_carried_is_refused(errors_of: Callable[..., list[str]]) -> None:
    head = HEAD.replace("tuned: {", "flow: {use: sd3, params: {model: a/flow}}, tuned: {")

    def said(row: str) -> str:
        return errors_of(f"rows: [{row}]\nreference: {{method: teacher}}\n", head=head)[0]

    assert "unknown backbone 'tunde'" in said("{method: tdm, sample_on: tunde}")
    assert "has no student" in said("{method: teacher, sample_on: tuned}")
    assert "of another process" in said("{method: tdm, sample_on: flow}")
    line = errors_of(f"{ROWS}reference: {{method: teacher, backbone: tunde}}\n", head=head)[0]
    assert "unknown backbone 'tunde'" in line


TUNED = """\
name: t
backbones: {base: {use: tiny-sd}}
base: {backbone: base, train: {updates: 10}, sample: {n: 16}, nfe: 4}
metrics: [fid]
rows:
  - {label: Photos, method: sft, nfe: 25, data: {prompts: "world-train:photo"}}
  - {label: Home, method: tdm}
  - {label: Away, method: tdm, sample_on: Photos}
"""


def test_a_student_is_sampled_on_a_fine_tune_of_the_same_file(plan_of: Callable[..., Plan]) -> None:
    plan = plan_of("reference: {method: teacher, guidance_scale: 7.5}\n", head=TUNED)
    photos, home, away = plan.cells
    assert home.train == away.train
    assert [cell.backbone for cell in plan.cells] == ["Photos", "base", "Photos"]
    stage = plan.stages[away.sample]
    assert (stage.spec["onto"], stage.needs) == (photos.train, (home.train, photos.train))
    assert "onto" not in plan.stages[home.sample].spec
    to = [plan.stages[plan.stages[c.scores["fid"]].spec["reference"]] for c in plan.cells]
    assert [to[i].spec["train"] for i in (0, 2)] == [photos.train] * 2
    assert plan.stages[to[1].spec["train"]].spec["method"]["name"] == "teacher"
    assert to[2].key == photos.sample
    assert [stage.spec["seed"] for stage in to] == [1000, 0, 0]  # its own floor is of other noise
    assert not plan.notes


def test_whose_samples_a_row_is_compared_with_may_be_said(plan_of: Callable[..., Plan]) -> None:
    def trains(reference: str) -> list[str]:
        plan = plan_of(f"reference: {{method: teacher, backbone: {reference}}}\n", head=TUNED)
        scores = [plan.stages[cell.scores["fid"]].spec["reference"] for cell in plan.cells]
        methods = [plan.stages[plan.stages[key].spec["train"]].spec["method"] for key in scores]
        return [method["name"] for method in methods]

    assert trains("base") == ["teacher"] * 3
    assert trains("Photos") == ["sft"] * 3
    assert trains("{Photos: base}") == ["teacher"] * 3
    assert trains("{Home: Photos, Away: base}") == ["sft", "sft", "teacher"]


def test_what_is_no_fine_tune_is_refused(errors_of: Callable[..., list[str]]) -> None:
    def said(row: str, reference: str = "Photos") -> str:
        text = f"  - {row}\nreference: {{method: teacher, backbone: {reference}}}\n"
        return errors_of(text, head=TUNED)[0]

    assert "unknown backbone 'Photo', and no row on backbone 'base'" in said(
        "{method: tdm, sample_on: Photo}")  # fmt: skip
    assert "a tdm student does not predict scores" in said("{method: tdm, sample_on: Home}")
    assert "sampled on itself" in said("{label: S, method: sft, sample_on: S}")
    assert "has no student" in said("{method: teacher, sample_on: Photos}")
    assert "unknown backbone 'Home'; there are: base, Photos" in said("{method: lcm}", "Home")
    assert "unknown backbone 'Foto'" in said("{method: lcm}", "{Foto: base}")
