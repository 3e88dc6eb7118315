"""Runs that start from other runs, and students taken on the way: specs, needs, bad input."""

from __future__ import annotations

from collections.abc import Callable

from distillbench.analysis.claims import parse_claim, resolve
from distillbench.analysis.rows import chosen, rows_of
from distillbench.plan.stage import Cell, Plan, Stage, lineage

PlanOf = Callable[..., Plan]
ErrorsOf = Callable[..., list[str]]

CHAIN = """\
rows:
  - {label: Tuned, method: fake-tuned, nfe: 4}
  - {label: Twice, method: fake-tuned, teacher: Tuned, nfe: 4}
  - {label: Base, method: fake-teacher, teacher: Twice, nfe: 4}
  - {label: Student, method: fake-student, teacher: Twice, init: Other, nfe: [4, 2]}
  - {label: Other, method: fake-student, teacher: Twice, params: {eta: 0.1}, nfe: 4}
seeds: [3, 4]
"""


def cell(plan: Plan, label: str, **fields: object) -> Cell:
    return next(
        c
        for c in plan.cells
        if c.label == label and all(getattr(c, k) == v for k, v in fields.items())
    )


def train(plan: Plan, label: str, seed: int = 3) -> Stage:
    return plan.stages[cell(plan, label, seed=seed).train]


def test_a_row_may_start_from_other_rows(plan_of: PlanOf) -> None:
    plan = plan_of(CHAIN)
    tuned, twice, student = (train(plan, name) for name in ("Tuned", "Twice", "Student"))
    assert tuned.spec["teacher"] is None
    assert tuned.needs == ()
    assert twice.spec["teacher"] == tuned.key
    assert twice.needs == (tuned.key,)
    assert student.spec["teacher"] == twice.key
    assert student.spec["init"] == train(plan, "Other").key
    assert student.needs == (twice.key, tuned.key, train(plan, "Other").key)
    assert "init" not in tuned.spec  # keys of plain trainings are what they were
    sample = plan.stages[cell(plan, "Student", nfe=2).sample]
    assert sample.needs == (student.key, twice.key, tuned.key)


def test_runs_are_linked_seed_by_seed(plan_of: PlanOf) -> None:
    plan = plan_of(CHAIN)
    assert train(plan, "Twice", 3).spec["teacher"] == train(plan, "Tuned", 3).key
    assert train(plan, "Twice", 4).spec["teacher"] == train(plan, "Tuned", 4).key
    assert train(plan, "Twice", 3).key != train(plan, "Twice", 4).key


def test_a_row_that_samples_another_rows_net_has_its_trainings(plan_of: PlanOf) -> None:
    trainings = {row.name: row.trainings for row in rows_of(plan_of(CHAIN))}
    assert (
        trainings["Base"]
        == trainings["Twice"]
        == tuple(train(plan_of(CHAIN), "Twice", seed).key for seed in (3, 4))
    )


def test_a_tuned_teacher_is_a_teacher_row(plan_of: PlanOf) -> None:
    plan = plan_of(CHAIN)
    assert train(plan, "Base").spec["teacher"] == train(plan, "Twice").key
    assert train(plan, "Base", 4).label == "Base b seed 4"
    ranked = {c.label: c.ranked for c in plan.cells}
    assert ranked == {
        "Tuned": False, "Twice": False, "Base": False, "Student": True, "Other": True
    }  # fmt: skip


def test_the_reference_stays_the_backbones_own_teacher(plan_of: PlanOf) -> None:
    text = CHAIN + "metrics: [fake-distance]\nreference: {method: fake-teacher, nfe: 25}\n"
    plan = plan_of(text)
    references = {s.spec["reference"] for s in plan.stages.values() if s.kind == "score"}
    trained = {plan.stages[key].spec["train"] for key in references}
    assert {plan.stages[key].spec["teacher"] for key in trained} == {None}


def test_stages_stand_after_what_they_need(plan_of: PlanOf) -> None:
    seen: set[str] = set()
    plan = plan_of(CHAIN)
    for key, stage in plan.stages.items():
        assert set(stage.needs) <= seen
        seen.add(key)


def test_links_that_do_not_fit(errors_of: ErrorsOf) -> None:
    head = "name: t\nbackbones: {b: {use: fake-points}}\nbase: {backbone: b}\nrows:\n"
    rows = """\
  - {label: Tuned, method: fake-tuned, nfe: 4}
  - {label: Plain, method: fake-teacher, nfe: 4}
  - {label: S, method: fake-student, nfe: 4}
"""
    cases = {
        "{method: fake-student, teacher: Tunde}": (
            "no row on backbone 'b' has the label 'Tunde'; there are: Tuned, Plain, S. "
            "Did you mean 'Tuned'?"
        ),
        "{method: fake-student, teacher: Plain}": (
            "fake-teacher trains nothing that could be a row's teacher"
        ),
        "{method: fake-student, teacher: S}": (
            "a fake-student student does not predict scores; a teacher is a row of: fake-tuned"
        ),
        "{method: fake-teacher, init: S}": (
            "fake-teacher has no student that could start from another"
        ),
        "{label: A, method: fake-tuned, teacher: A}": "row 'A' would start from itself",
        "{label: A, method: fake-tuned, teacher: Tuned, init: Tuned}": (
            "the adapter of 'Tuned' fits the teacher it was trained on alone"
        ),
    }
    for row, line in cases.items():
        found = errors_of(rows + f"  - {row}\n", head=head)
        assert len(found) == 1
        assert line in found[0]
        assert found[0].startswith("e.yaml:8:")


def test_a_link_that_leads_on_to_nothing_is_reported_where_it_stands(errors_of: ErrorsOf) -> None:
    text = """\
rows:
  - {label: A, method: fake-tuned, teacher: B, nfe: 4}
  - {label: B, method: fake-tuned, teacher: C, nfe: 4}
"""
    (line,) = errors_of(text)
    assert line.startswith("e.yaml:6:")
    assert "has the label 'C'; there are: A." in line
    (line,) = errors_of("rows: [{label: A, method: fake-tuned, teacher: B}]\n")
    assert "there are: none." in line


def test_seeds_left_out_of_a_row_do_not_make_it_two_trainings(plan_of: PlanOf) -> None:
    text = """\
rows:
  - {label: T, method: fake-tuned, nfe: [4, 2]}
  - {label: S, method: fake-student, teacher: T, nfe: 4}
seeds: [3, 4]
exclude: [{label: T, nfe: 4, seed: 3}]
"""
    plan = plan_of(text)
    assert train(plan, "S", 3).spec["teacher"] == train(plan, "T", 3).key


def test_rows_of_a_grid_are_linked_value_by_value(plan_of: PlanOf) -> None:
    text = """\
rows:
  - {label: T, method: fake-tuned, nfe: 4}
  - {label: S, method: fake-student, teacher: T, nfe: 4}
grid: {params.eta: [0.1, 0.2]}
"""
    plan = plan_of(text + "ablate: {params.loss: [mse]}\n")
    for value in ("0.1", "0.2"):
        teacher = train(plan, f"T (eta={value})", 0).key
        assert train(plan, f"S (eta={value})", 0).spec["teacher"] == teacher
        assert train(plan, f"S (eta={value}, loss=mse)", 0).spec["teacher"] == teacher


def test_a_label_of_two_trainings_is_refused(errors_of: ErrorsOf) -> None:
    text = """\
rows:
  - {label: T, method: fake-tuned, nfe: 4}
  - {label: T, method: fake-tuned, params: {eta: 0.1}, nfe: 4}
  - {label: S, method: fake-student, teacher: T, nfe: 4}
"""
    (line,) = errors_of(text)
    assert "label 'T' means several trainings" in line


# ---- snapshots ----------------------------------------------------------------------------------

WAY = """\
rows:
  - {label: S, method: fake-student, nfe: [4, 2], snapshots: [2, 5, 10]}
  - {label: Again, method: fake-student, nfe: 4, tags: {a: 1}}
"""


def test_students_on_the_way_share_one_training(plan_of: PlanOf) -> None:
    plan = plan_of(WAY)
    trains = [s for s in plan.stages.values() if s.kind == "train"]
    assert [s.spec["train"].get("stop") for s in trains] == [2, 5, None]
    first, second, last = trains
    assert (first.needs, second.needs, last.needs) == ((), (first.key,), (second.key,))
    assert {lineage(s) for s in trains} == {last.key}
    assert last.key == train(plan_of(WAY.replace("snapshots: [2, 5, 10]", "")), "S", 0).key
    assert [(c.updates, c.final) for c in plan.cells if c.label == "S" and c.nfe == 4] == [
        (2, False), (5, False), (10, True)
    ]  # fmt: skip


def test_rows_on_the_way_show_where_they_are_asked_for(plan_of: PlanOf) -> None:
    rows = rows_of(plan_of(WAY))
    assert [r.first.updates for r in chosen(rows, {"label": "S", "nfe": 4})] == [10]
    assert len(chosen(rows, {"label": "S", "nfe": 4}, ["label", "updates"])) == 3
    assert [r.first.nfe for r in chosen(rows, {"updates": 5})] == [4, 2]


def test_claims_mean_the_end_of_training_unless_told(plan_of: PlanOf) -> None:
    claims = ["S > Again on fake-spread at nfe=4", "S[nfe=4,updates=5] > Again on fake-spread"]
    listed = "".join(f'  - "{text}"\n' for text in claims)
    rows = rows_of(plan_of(WAY + f"metrics: [fake-spread]\nclaims:\n{listed}"))
    meant = [resolve(parse_claim(text), rows)[0].first for text in claims]
    assert [(cell.updates, cell.final) for cell in meant] == [(10, True), (5, False)]


def test_updates_that_do_not_exist(errors_of: ErrorsOf) -> None:
    (line,) = errors_of("rows: [{method: fake-student, snapshots: [3, 11]}]\n")
    assert "no update 11 in a training of train.updates 10" in line
    (line,) = errors_of("rows: [{method: fake-teacher, snapshots: 3}]\n")
    assert "fake-teacher trains nothing" in line


def test_the_cost_of_a_training_is_shared_by_its_stages(plan_of: PlanOf) -> None:
    trains = [s for s in plan_of(WAY).stages.values() if s.kind == "train"]
    shares = [s.cost / sum(t.cost for t in trains) for s in trains]
    assert [round(share, 6) for share in shares] == [0.2, 0.3, 0.5]
    (whole,) = (s for s in plan_of(WAY.replace("snapshots: [2, 5, 10]", "")).stages.values()
                if s.kind == "train")  # fmt: skip
    assert abs(whole.cost - sum(t.cost for t in trains)) < 1e-6


def test_no_updates_means_the_end(plan_of: PlanOf, errors_of: ErrorsOf) -> None:
    head = "name: t\nbackbones: {b: {use: fake-points}}\n"
    text = """\
base: {backbone: b, train: {updates: 10}, snapshots: [5, 10]}
for_method: {fake-teacher: {snapshots: []}}
rows: [{method: fake-student, nfe: 4}, {method: fake-teacher, nfe: 4}]
"""
    assert [c.updates for c in plan_of(text, head=head).cells] == [5, 10, 0]
    (line,) = errors_of("rows: [{method: fake-student, nfe: []}]\n")
    assert line.startswith("e.yaml:4:")
    assert "at least 1 item" in line


def test_only_knows_where_a_student_was_taken(plan_of: PlanOf) -> None:
    assert [c.label for c in plan_of(WAY, only="updates=10 nfe=4").cells] == ["S", "Again"]
    assert [c.updates for c in plan_of(WAY, only="updates=5").cells] == [5, 5]


ALONE = """\
rows: [{label: S, method: fake-student, snapshots: [2, 5], nfe: 4}]
metrics: [fake-spread]
"""


def test_outputs_that_would_show_students_on_the_way_alone(
    plan_of: PlanOf, errors_of: ErrorsOf
) -> None:
    assert any("S has snapshots alone" in note for note in plan_of(ALONE).notes)
    parts = {
        "tables: [{name: t, columns: [label, fake-spread]}]\n": "name updates in columns",
        "figures: [{name: f, kind: curve, y: fake-spread}]\n": "name updates in columns, x",
        "claims: ['S > S on fake-spread']\n": "name a snapshot, e.g. S[updates=5]",
    }
    for part, what in parts.items():
        (line,) = errors_of(ALONE + part)
        assert what in line
        assert line.startswith("e.yaml:6:")
    fine = "tables: [{name: t, columns: [label, updates, fake-spread]}]\n"
    plan_of(ALONE + fine + "figures: [{name: f, kind: curve, x: updates, y: fake-spread}]\n")


def test_a_run_may_start_from_one_at_another_resolution(
    plan_of: PlanOf, errors_of: ErrorsOf
) -> None:
    text = """\
name: stages
backbones:
  small: {use: sd, params: {resolution: 256}}
  large: {use: sd, params: {resolution: 512}}
  other: {use: sdxl}
base: {method: tdm, params: {nets: copy}, data: {prompts: hpsv2}, sample: {prompts: hpsv2}}
rows:
  - {label: First, backbone: small}
  - {label: Second, backbone: large, init: First}
"""
    plan = plan_of(text, head="")
    assert train(plan, "Second", 0).spec["init"] == train(plan, "First", 0).key
    (error,) = errors_of(text + "  - {label: Third, backbone: other, init: First}\n", head="")
    assert "no row on backbone 'other' has the label 'First'" in error


def test_a_row_of_the_own_resolution_comes_first(plan_of: PlanOf) -> None:
    plan = plan_of(
        """\
name: stages
backbones:
  small: {use: sd, params: {resolution: 256}}
  large: {use: sd, params: {resolution: 512}}
base: {method: tdm, params: {nets: copy}, data: {prompts: hpsv2}, sample: {prompts: hpsv2}}
rows:
  - {label: First, backbone: small}
  - {label: First, backbone: large}
  - {label: Second, backbone: large, init: First}
""",
        head="",
    )
    own = next(c.train for c in plan.cells if (c.label, c.backbone) == ("First", "large"))
    assert train(plan, "Second", 0).spec["init"] == own
