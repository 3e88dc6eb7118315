"""Specs, keys, sharing and references of a plan."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from distillbench.analysis.check import checked_plan
from distillbench.data.imageset import images_identity
from distillbench.experiment.schema import CellConfig, Experiment, MetricRef
from distillbench.plan.identity import (
    IDENTITY_VERSION,
    canonical_json,
    content_key,
)
from distillbench.plan.stage import Plan

PlanOf = Callable[..., Plan]
GOLDEN = Path(__file__).parent.parent / "golden" / "content_keys.json"

FULL = """\
rows:
  - {method: fake-teacher, nfe: 4}
  - {method: fake-student, nfe: [4, 2, 1], train: {save_every: 5}}
seeds: [0, 1]
metrics: [fake-spread, {use: fake-spread, id: wide, params: {k: 9}}, fake-distance]
reference: {method: fake-teacher, nfe: 25}
"""


def kinds(plan: Plan) -> dict[str, int]:
    counts: dict[str, int] = {}
    for stage in plan.stages.values():
        counts[stage.kind] = counts.get(stage.kind, 0) + 1
    return counts


def test_shared_stages_are_made_once(plan_of: PlanOf) -> None:
    plan = plan_of(FULL)
    # Two student trainings and the teacher; four rows and the reference, each with two seeds.
    assert kinds(plan) == {"train": 3, "sample": 10, "score": 24}
    assert len(plan.cells) == 8
    students = {cell.train for cell in plan.cells if cell.method == "fake-student"}
    assert len(students) == 2


def test_stages_come_after_what_they_need(plan_of: PlanOf) -> None:
    seen: set[str] = set()
    for key, stage in plan_of(FULL).stages.items():
        assert set(stage.needs) <= seen
        assert key == stage.key == content_key(stage.spec)
        seen.add(key)


def test_specs_have_the_agreed_fields(plan_of: PlanOf) -> None:
    plan = plan_of(FULL)
    cell = next(cell for cell in plan.cells if cell.method == "fake-student")
    train, sample = plan.stages[cell.train], plan.stages[cell.sample]
    score = plan.stages[cell.scores["fake-distance"]]
    backbone = {"name": "fake-points", "params": {"width": 8}, "revision": "r1"}
    method = {
        "name": "fake-student", "version": 1,
        "params": {"steps": 4, "eta": 0.5, "loss": "huber", "embed": False},
    }  # fmt: skip
    prompts = train.spec["data"].pop("prompts_sha256")
    assert len(prompts) == 64
    assert train.spec == {
        "identity": IDENTITY_VERSION, "backbone": backbone, "method": method,
        "train": {"updates": 10, "batch_size": 32, "accumulate": 1, "precision": "float32",
                  "lr_scale": 1.0, "processes": 1},
        "data": {"images_sha256": ""},
        "seed": 0, "teacher": None,
    }  # fmt: skip
    assert train.runtime == {
        "threads": 1, "save_every": 5, "experiment": "t", "prompts": "gmm-train",
        "settings": {"backbone": {}, "method": {}},
    }  # fmt: skip
    assert {k: v for k, v in sample.spec.items() if k not in ("prompts", "sampler")} == {
        "identity": IDENTITY_VERSION, "train": train.key, "backbone": backbone, "method": method,
        "seed": 0, "batch_size": 50,
    }  # fmt: skip
    assert sample.spec["prompts"] | {"sha256": ""} == {"sha256": "", "n": 16}
    assert sample.spec["sampler"] == {
        "kind": "fake", "solver": "plain", "timesteps": [999, 749, 499, 249],
        "guidance_scale": 1.0, "embed_scale": None, "steps_k": None,
    }  # fmt: skip
    assert score.spec["metric"] == {
        "name": "fake-distance", "version": 1, "params": {"k": 3}, "revision": "",
    }  # fmt: skip
    assert score.needs == (sample.key, score.spec["reference"])
    assert json.loads(canonical_json(score.spec)) == score.spec


def test_a_method_without_nets_trains_nothing(plan_of: PlanOf) -> None:
    plan = plan_of(FULL)
    cells = [cell for cell in plan.cells if cell.method == "fake-teacher"]
    spec = plan.stages[cells[0].train].spec
    assert (spec["train"], spec["data"], spec["seed"]) == ({}, {}, 0)
    assert cells[0].train == cells[1].train
    assert cells[0].sample != cells[1].sample
    assert not cells[0].ranked
    assert next(c for c in plan.cells if c.method == "fake-student").ranked


def test_teacher_and_reference_are_sampled_in_the_precision_of_the_students(
    plan_of: PlanOf,
) -> None:
    plain = {cell.train for cell in plan_of(FULL).cells}
    plan = plan_of(FULL + "base: {backbone: b, sample: {n: 16}, train: {precision: bfloat16}}\n",
                   head="name: t\nbackbones: {b: {use: fake-points}}\n")  # fmt: skip
    for cell in plan.cells:
        keys = [cell.train]
        if reference := plan.stages[cell.scores["fake-distance"]].spec["reference"]:
            keys.append(plan.stages[reference].spec["train"])
        for key in keys:
            assert plan.stages[key].spec["train"]["precision"] == "bfloat16"
            assert key not in plain


def test_the_reference_has_the_seed_of_the_row(plan_of: PlanOf) -> None:
    plan = plan_of(FULL)
    for cell in plan.cells:
        score = plan.stages[cell.scores["fake-distance"]]
        reference = plan.stages[score.spec["reference"]].spec
        assert reference["seed"] == cell.seed
        assert len(reference["sampler"]["timesteps"]) == 25
        assert reference["prompts"] == plan.stages[cell.sample].spec["prompts"]
        assert plan.stages[cell.scores["wide"]].spec["reference"] is None


def test_a_row_that_is_the_reference_is_compared_with_another_seed(plan_of: PlanOf) -> None:
    plan = plan_of(FULL.replace("nfe: 4}", "nfe: 25}") + "  \n")
    cell = plan.cells[0]
    score = plan.stages[cell.scores["fake-distance"]]
    assert score.spec["reference"] != cell.sample
    assert plan.stages[score.spec["reference"]].spec["seed"] == 1000


def test_a_reference_of_other_noise_is_of_other_noise_for_every_row(plan_of: PlanOf) -> None:
    rows = FULL.replace("nfe: 4}", "nfe: [4, 25]}")
    same, default = plan_of(rows.replace("nfe: 25}", "nfe: 25, noise: same}")), plan_of(rows)
    other = plan_of(rows.replace("nfe: 25}", "nfe: 25, noise: other}"))
    assert list(same.stages) == list(default.stages)
    for cell in other.cells:
        score = other.stages[cell.scores["fake-distance"]]
        assert other.stages[score.spec["reference"]].spec["seed"] == cell.seed + 1000
        own_reference = (cell.method, cell.nfe) == ("fake-teacher", 25)
        assert (score.key in default.stages) == own_reference  # the floor was of other noise before
        assert cell.sample in default.stages
    assert (
        len({other.stages[c.scores["fake-distance"]].spec["reference"] for c in other.cells}) == 2
    )
    far = plan_of(rows.replace("nfe: 25}", "nfe: 25, noise: other, floor_seed: 7}"))
    seeds = {far.stages[c.scores["fake-distance"]].spec["reference"] for c in far.cells}
    assert {far.stages[key].spec["seed"] for key in seeds} == {7, 8}


@pytest.mark.parametrize("row", ["guidance_scale: 3.0", "params: {guidance_scale: 3.0}"])
@pytest.mark.parametrize("reference", ["guidance_scale: 3.0", "params: {guidance_scale: 3.0}"])
def test_however_its_scale_is_said_a_teacher_is_not_compared_with_itself(
    row: str, reference: str, plan_of: PlanOf
) -> None:
    plan = plan_of(
        f"rows: [{{method: fake-teacher, nfe: 25, {row}}}]\nmetrics: [fake-distance]\n"
        f"reference: {{method: fake-teacher, nfe: 25, {reference}}}\n"
    )
    score = plan.stages[plan.cells[0].scores["fake-distance"]].spec
    assert plan.stages[score["reference"]].spec["seed"] == 1000


def test_each_backbone_has_the_reference_of_its_own_teacher(plan_of: PlanOf) -> None:
    plan = plan_of(
        "backbones: {b: fake-points, c: {use: fake-points, params: {width: 4}}}\n"
        "grid: {backbone: [b, c]}\n"
        "rows: [{method: fake-student}]\n"
        "metrics: [fake-distance]\n"
        "reference: {method: fake-teacher, nfe: 25, guidance_scale: {b: 3.5, c: 8}}\n",
        head="name: e\n",
    )
    scales = {}
    for cell in plan.cells:
        reference = plan.stages[str(plan.stages[cell.scores["fake-distance"]].spec["reference"])]
        scales[cell.backbone] = reference.spec["sampler"]["guidance_scale"]
    assert scales == {"b": 3.5, "c": 8.0}


def test_a_reference_that_is_not_the_teacher_of_the_rows_is_noted(plan_of: PlanOf) -> None:
    text = (
        "rows: [{method: fake-teacher, nfe: 25, guidance_scale: 3.5}, {method: fake-student}]\n"
        "metrics: [fake-distance]\n"
        "reference: {method: fake-teacher, nfe: 25, guidance_scale: 3.5}\n"
    )
    assert not plan_of(text).notes
    (note,) = plan_of(text.replace("guidance_scale: 3.5}\n", "guidance_scale: 3}\n")).notes
    assert note.startswith("b: the reference (guidance_scale 3) is no teacher among the rows")


def test_rows_of_several_references_are_noted(plan_of: PlanOf) -> None:
    text = (
        "rows: [{method: fake-student, label: A}, "
        "{method: fake-student, label: B, train: {precision: bfloat16}}]\n"
        "metrics: [fake-distance]\nreference: {method: fake-teacher, nfe: 8}\n"
    )
    (note,) = plan_of(text).notes
    assert note.startswith("b: rows are compared with different samples of the reference")
    assert (
        plan_of(
            text.replace("bfloat16", "float32").replace("label: B", "label: B, params: {eta: 0.1}")
        ).notes
        == ()
    )


def test_sampling_overrides_are_part_of_the_recipe(plan_of: PlanOf) -> None:
    plan = plan_of(
        "rows:\n"
        "  - {method: fake-teacher, guidance_scale: 3, sampler: {solver: fancy}}\n"
        "  - {method: fake-student, params: {embed: true}}\n"
        "  - {method: fake-student, params: {embed: true}, guidance_scale: 5}\n"
    )
    recipes = [plan.stages[cell.sample].spec["sampler"] for cell in plan.cells]
    assert (recipes[0]["guidance_scale"], recipes[0]["solver"]) == (3.0, "fancy")
    assert [(r["guidance_scale"], r["embed_scale"]) for r in recipes[1:]] == [(1, 7), (1, 5)]
    assert [cell.guidance_scale for cell in plan.cells] == [3, 7, 5]
    assert plan.cells[1].train == plan.cells[2].train


@pytest.mark.parametrize(
    ("sets", "changed"),
    [
        (["base.train.updates=11"], {"train", "sample", "score"}),
        (["base.train.save_every=3"], set()),
        (["threads=2"], set()),
        (["base.sample.n=17"], {"sample", "score"}),
        (["rows.0.guidance_scale=3"], {"sample", "score"}),
        (["rows.0.params.eta=0.6"], {"train", "sample", "score"}),
        (["rows.0.label=other", "rows.0.tags={a: 1}", "title=x"], set()),
        (["metrics.0.params.k=4"], {"score"}),
        (["seeds=[1]"], {"train", "sample", "score"}),
        (["backbones.b.params.width=9"], {"train", "sample", "score"}),
    ],
)
def test_keys_change_with_what_may_change_a_number(
    plan_of: PlanOf, sets: list[str], changed: set[str]
) -> None:
    text = "rows: [{method: fake-student}]\nmetrics: [{use: fake-spread}]\n"
    before, after = plan_of(text), plan_of(text, sets=sets)
    assert {s.kind for s in after.stages.values() if s.key not in before.stages} == changed


def test_costs_are_network_evaluations(plan_of: PlanOf) -> None:
    plan = plan_of("rows: [{method: fake-student}, {method: fake-teacher}]\n")
    student, teacher = plan.cells
    # 10 steps of 32 samples, two turns each, three times the price of an evaluation.
    assert plan.stages[student.train].cost == 10 * 32 * 2 * 3
    assert plan.stages[student.sample].cost == 16 * 4
    assert plan.stages[teacher.sample].cost == 16 * 4 * 2


def test_images_are_named_by_their_content(plan_of: PlanOf, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    (folder / "captions.jsonl").write_text('{"file": "a.png", "text": "a"}\n')
    head = "name: t\nbase: {backbone: fake-images, sample: {prompts: gmm-eval}}\n"
    text = f"rows: [{{method: fake-real, data: {{images: {folder}}}}}]\n"
    plan = plan_of(text, head=head)
    data = plan.stages[plan.cells[0].train].spec["data"]
    assert data["images_sha256"] == images_identity(folder)
    assert data["prompts_sha256"] == ""
    (folder / "captions.jsonl").write_text('{"file": "a.png", "text": "b"}\n')
    assert plan_of(text, head=head).cells[0].train != plan.cells[0].train


def test_a_file_of_prompts_is_known_by_its_content(plan_of: PlanOf, tmp_path: Path) -> None:
    """Where it lies is told to the stages beside their specs, and is in no key."""
    row = "rows: [{method: fake-student, data: {prompts: %s}, sample: {prompts: %s}}]\n"
    plans = []
    for name in ("a.txt", "other/b.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("one\ntwo\n")
        plans.append(plan_of(row % (name, name)))
        for stage in plans[-1].stages.values():
            assert stage.runtime["prompts"] == str(path)
    assert set(plans[0].stages) == set(plans[1].stages)
    (tmp_path / "a.txt").write_text("one\n")
    assert not set(plan_of(row % ("a.txt", "a.txt")).stages) & set(plans[0].stages)


def test_a_backbone_without_prompts_wants_some(errors_of: Callable[..., list[str]]) -> None:
    head = "name: t\nbase: {backbone: fake-images}\n"
    assert errors_of("rows: [{method: fake-student}]\n", head=head) == [
        "e.yaml:2:8: base.backbone: backbone 'fake-images' has no prompt set of its own; set "
        "data.prompts",
        "e.yaml:2:8: base.backbone: backbone 'fake-images' has no prompt set of its own; set "
        "sample.prompts",
    ]


def test_an_experiment_made_in_code_plans_alike(plan_of: PlanOf) -> None:
    written = plan_of("rows: [{method: fake-student}]\nmetrics: [fake-spread]\n")
    base = CellConfig.model_validate(
        {"backbone": "b", "train": {"updates": 10}, "sample": {"n": 16}}
    )
    made = Experiment(
        name="t", base=base, backbones={"b": {"use": "fake-points"}},  # type: ignore[dict-item]
        rows=[{"method": "fake-student"}], metrics=[MetricRef(use="fake-spread")],
    )  # fmt: skip
    assert set(checked_plan(made).stages) == set(written.stages)


# ---- golden ---------------------------------------------------------------------------------

SPECS: dict[str, Any] = {
    "empty": {},
    "order": {"b": 1, "a": [1, 2.0, None, True, "x"]},
    "floats": {"a": 1e-4, "b": 1e22, "c": 0.1, "d": -0.0, "e": 3.0, "f": 3},
    "text": {"a": "naive caf\u00e9 \u2603"},
}


def test_golden_keys(plan_of: PlanOf) -> None:
    """A key that changes orphans every result: only a new IDENTITY_VERSION may do that."""
    plan = plan_of(FULL)
    found = {
        "identity": IDENTITY_VERSION,
        "specs": {name: content_key(spec) for name, spec in SPECS.items()},
        "plan": {f"{s.kind} {s.label}": s.key for s in plan.stages.values()},
    }
    golden = json.loads(GOLDEN.read_text())
    assert golden["identity"] == IDENTITY_VERSION
    assert found == golden


def test_canonical_json_is_strict() -> None:
    assert canonical_json({"b": (1, 2), "a": 1e-4}) == '{"a":0.0001,"b":[1,2]}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": float("nan")})
    with pytest.raises(TypeError):
        canonical_json({"a": {1, 2}})
