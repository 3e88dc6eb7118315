"""Rows whose samples another tool made, as they are planned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from distillbench.analysis.references import against
from distillbench.analysis.rows import rows_of
from distillbench.plan.requirements import requirements
from distillbench.plan.stage import Plan
from distillbench.store.layout import Store

PlanOf = Callable[..., Plan]
ErrorsOf = Callable[..., list[str]]
HEAD = """\
name: t
backbones: {base: {use: sd, params: {model: a/base}}}
base: {backbone: base, train: {updates: 10}, sample: {n: 8, prompts: gmm-eval}, nfe: 4}
"""
FID = "metrics: [fid]\nreference: {method: teacher}\n"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTILLBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DISTILLBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    for seed in range(2):
        Path(f"out/{seed}").mkdir(parents=True)
        for i in range(8):
            Image.new("RGB", (32, 32), (i, seed, 0)).save(f"out/{seed}/{i}.png")


def test_a_row_beside_others(plan_of: PlanOf) -> None:
    text = f"rows: [{{method: teacher, nfe: 25}}, {{label: Theirs, samples: out/0}}]\n{FID}"
    plan = plan_of(text, head=HEAD)
    ours, theirs = plan.cells
    assert (theirs.label, theirs.nfe, theirs.backbone, theirs.ranked) == ("Theirs", 4, "base", True)
    assert (theirs.method, theirs.train, theirs.updates) == ("", "", 0)
    stage = plan.stages[theirs.sample]
    assert stage.needs == ()
    assert stage.options.samples == str(Path("out/0").absolute())
    teachers = [plan.stages[c.scores["fid"]].spec["reference"] for c in (ours, theirs)]
    assert teachers[1] == ours.sample
    found = [against(plan, row, "fid") for row in rows_of(plan)]
    assert found[1] is not None
    assert (found[1].noise, found[1].floor) == ("other", False)


def test_the_place_is_in_no_key(plan_of: PlanOf) -> None:
    row = "rows: [{{label: Theirs, samples: {}}}]\n"
    first = plan_of(row.format("out/0"), head=HEAD).cells[0]
    Path("out/0").rename("moved")
    assert plan_of(row.format("./moved"), head=HEAD).cells[0].sample == first.sample
    Image.new("RGB", (32, 32)).save("moved/3.png")
    assert plan_of(row.format("moved"), head=HEAD).cells[0].sample != first.sample


def test_no_guidance_is_1(errors_of: ErrorsOf) -> None:
    """0, as others write it, would count two evaluations a step."""
    row = "rows: [{label: Theirs, samples: out/0, guidance_scale: 0}]\n"
    assert "for no guidance, which others write as 0, say 1" in errors_of(row, head=HEAD)[0]


def test_seeds(plan_of: PlanOf) -> None:
    head = HEAD + "seeds: [0, 1]\n"
    plan = plan_of("rows: [{samples: 'out/{seed}', label: T}]\n", head=head)
    assert [cell.seed for cell in plan.cells] == [0, 1]
    assert len({cell.sample for cell in plan.cells}) == 2
    assert rows_of(plan)[0].repeats([0, 1]) == 2
    plan = plan_of("rows: [{samples: out/0, label: T}]\n", head=head)
    assert [cell.seed for cell in plan.cells] == [0]
    assert rows_of(plan)[0].repeats([0, 1]) == 1
    assert any("is one set; with {seed} in the path" in note for note in plan.notes)


def test_without_a_backbone(plan_of: PlanOf, errors_of: ErrorsOf) -> None:
    head = "name: t\nbase: {sample: {n: 8, prompts: gmm-eval}, nfe: 4}\n"
    (cell,) = plan_of("rows: [{samples: out/0}]\nmetrics: [clip]\n", head=head).cells
    assert (cell.backbone, cell.name) == ("", "0")
    said = errors_of(f"rows: [{{samples: out/0}}]\n{FID}", head=head)
    assert any("compares with a teacher's samples; say with `backbone` whose" in s for s in said)
    lost = head.replace(", prompts: gmm-eval", "")
    (line,) = errors_of("rows: [{samples: out/0}]\n", head=lost)
    assert "a row without a backbone has no prompt set" in line


def test_prompts_that_are_not_on_this_disk(plan_of: PlanOf) -> None:
    plan = plan_of("rows: [{samples: out/0}]\n", head=HEAD.replace("gmm-eval", "hpsv2"))
    needs = [found.need.name for found in requirements(plan, Store("store")) if found.need.problem]
    assert needs == ["hpsv2"]


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ("{samples: gone}", "no folder gone"),
        ("{samples: out/0, method: lcm}", "samples of another tool have no method"),
        ("{samples: out/0, sampler: {kind: ode}}", "have no sampler"),
        ("{samples: out/0, sample: {n: 7, prompts: p.txt}}", "8 files for 7 samples"),
        ("{samples: out}", "no pictures or videos in it"),
    ],
)  # fmt: skip
def test_bad_rows_are_one_line_with_their_place(errors_of: ErrorsOf, row: str, text: str) -> None:
    Path("p.txt").write_text("a\nb\nc\n")
    (line,) = errors_of(f"rows: [{row}]\n", head=HEAD)
    assert line.startswith("e.yaml:")
    assert text in line


def test_nfe_must_be_said(errors_of: ErrorsOf) -> None:
    (line,) = errors_of("rows: [{samples: out/0}]\n", head=HEAD.replace(", nfe: 4", ""))
    assert "say with `nfe` how many network evaluations" in line


def test_samples_kept_as_files_are_in_no_key(plan_of: PlanOf, errors_of: ErrorsOf) -> None:
    rows = "rows: [{{samples: out/0, label: T, sample: {{keep: {}}}}}]\n"
    plain, png = (plan_of(rows.format(kind), head=HEAD) for kind in ('""', "png"))
    assert [list(plan.stages) for plan in (plain, png)] == [list(plain.stages)] * 2
    assert png.cells[0].settings["sample.keep"] == "png"
    (line,) = errors_of(rows.format("mp4"), head=HEAD)
    assert line.startswith("e.yaml:4:44: ")
    assert line.endswith("keep: mp4 keeps no image samples; use png")
    points = "rows: [{method: fake-student, sample: {keep: png}}]\n"
    (line,) = errors_of(points)
    assert line.endswith("keep: png keeps no point samples; leave it out")


def test_what_writes_mp4_is_looked_for_before_a_run(plan_of: PlanOf) -> None:
    frames = [Image.new("RGB", (32, 32), (40 * i, 0, 0)) for i in range(3)]
    Path("moving").mkdir()
    for i in range(8):
        frames[0].save(f"moving/{i}.gif", save_all=True, append_images=frames[1:])
    head = "name: t\nbase: {sample: {n: 8, prompts: gmm-eval, keep: mp4}, nfe: 4}\n"
    plan = plan_of("rows: [{samples: moving}]\nmetrics: [temporal_flickering]\n", head=head)
    assert "av" in [found.need.name for found in requirements(plan, Store("store"))]
