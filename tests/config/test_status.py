"""Cached, new, stale with the reason, failed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from distillbench.plan.stage import Plan
from distillbench.plan.status import differences, plan_status
from distillbench.run.worker import _identity
from distillbench.store.layout import Store
from distillbench.store.record import Failure

PlanOf = Callable[..., Plan]
TEXT = "rows: [{method: fake-student}]\nmetrics: [fake-spread]\n"


def finish(plan: Plan, store: Store, *kinds: str) -> None:
    """Commit the plan's stages of these kinds with nothing but their spec."""
    for stage in plan.stages.values():
        if stage.kind in kinds:
            tmp = store.begin(stage.kind, stage.key)
            (tmp / "spec.json").write_text(json.dumps(_identity(stage)))
            store.commit(tmp, stage.kind, stage.key)


def states(plan: Plan, store: Store) -> dict[str, tuple[str, str]]:
    status = plan_status(plan, store)
    return {s.kind: (status[s.key].state, status[s.key].reason) for s in plan.stages.values()}


def test_all_is_new_in_an_empty_store(plan_of: PlanOf, tmp_path: Path) -> None:
    found = states(plan_of(TEXT), Store(tmp_path / "store"))
    assert found == dict.fromkeys(("train", "sample", "score"), ("new", ""))


def test_finished_stages_are_cached(plan_of: PlanOf, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    plan = plan_of(TEXT)
    finish(plan, store, "train", "sample")
    assert {kind: state for kind, (state, _) in states(plan, store).items()} == {
        "train": "cached", "sample": "cached", "score": "new",
    }  # fmt: skip


def test_an_edit_makes_its_stages_stale_and_says_why(plan_of: PlanOf, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    finish(plan_of(TEXT), store, "train", "sample", "score")
    edited = plan_of(TEXT, sets=["base.train.updates=20", "base.params.eta=0.25"])
    reason = "method.params.eta 0.5 -> 0.25; train.updates 10 -> 20"
    found = states(edited, store)
    assert found["train"] == ("stale", reason)
    assert found["sample"] == ("stale", "method.params.eta 0.5 -> 0.25")
    assert found["score"][0] == "stale"


def test_a_stage_that_only_follows_gives_the_reason_of_its_cause(
    plan_of: PlanOf, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    finish(plan_of(TEXT), store, "train", "sample", "score")
    found = states(plan_of(TEXT, sets=["base.train.updates=20"]), store)
    assert found == dict.fromkeys(found, ("stale", "train.updates 10 -> 20"))


def test_a_run_that_starts_from_an_edited_one_gives_its_reason(
    plan_of: PlanOf, tmp_path: Path
) -> None:
    rows = "rows: [{label: T, method: fake-tuned}, {method: fake-student, %s: T}]\n"
    for link in ("teacher", "init"):
        store = Store(tmp_path / link)
        finish(plan_of(rows % link), store, "train")
        edited = plan_of(rows % link, sets=["rows.0.params.eta=0.25"])
        status = plan_status(edited, store)
        reasons = [status[key].reason for key, s in edited.stages.items() if s.kind == "train"]
        assert reasons == ["method.params.eta 0.5 -> 0.25"] * 2


def test_only_the_changed_part_is_stale(plan_of: PlanOf, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    finish(plan_of(TEXT), store, "train", "sample", "score")
    found = states(plan_of(TEXT, sets=["base.sample.n=32"]), store)
    assert found["train"] == ("cached", "")
    assert found["sample"] == found["score"] == ("stale", "prompts.n 16 -> 32")


def test_another_seed_or_a_sibling_is_new_not_stale(plan_of: PlanOf, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    finish(plan_of(TEXT), store, "train", "sample", "score")
    seeds = plan_status(plan_of(TEXT, sets=["seeds=[0, 1]"]), store)
    assert sorted(s.state for s in seeds.values()) == ["cached"] * 3 + ["new"] * 3
    grid = plan_status(plan_of(f"{TEXT}grid: {{params.eta: [0.5, 0.1]}}\n"), store)
    assert sorted(s.state for s in grid.values()) == ["cached"] * 3 + ["new"] * 3


def test_rows_that_were_not_asked_for_are_nobodys_predecessors(
    plan_of: PlanOf, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    rows = (
        "rows: [{method: fake-student, label: A}, "
        "{method: fake-student, label: B, params: {eta: 0.1}}]\n"
    )
    whole, part = plan_of(rows), plan_of(rows, only="label=B")
    finish(plan_of(rows, only="label=A"), store, "train", "sample")
    assert {s.state for s in plan_status(part, store).values()} == {"new"}
    assert {s.state for s in plan_status(part, store, whole=whole).values()} == {"new"}


def test_another_experiment_leaves_no_predecessors(plan_of: PlanOf, tmp_path: Path) -> None:
    """A sweep that never ran is new, however near what another experiment left may be."""
    store = Store(tmp_path / "store")
    finish(plan_of(TEXT), store, "train", "sample", "score")
    edit = ["base.train.updates=20"]
    assert {state for state, _ in states(plan_of(TEXT, sets=edit), store).values()} == {"stale"}
    other = plan_of(TEXT, sets=[*edit, "name=other"])
    assert {state for state, _ in states(other, store).values()} == {"new"}
    sweep = plan_of(f"{TEXT}grid: {{params.eta: [0.1, 0.2]}}\n")
    assert {s.state for s in plan_status(sweep, store).values()} == {"new"}


def test_a_recorded_failure_is_told(plan_of: PlanOf, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.prepare()
    plan = plan_of(TEXT)
    store.fail("train", plan.cells[0].train, Failure(error="loss is NaN at step 3"))
    state, reason = states(plan, store)["train"]
    assert state == "failed"
    assert reason.startswith("loss is NaN at step 3")


def test_differences_name_fields() -> None:
    old = {"a": {"b": 1, "c": [1, 2]}, "k": "x" * 64, "gone": 1}
    new = {"a": {"b": 2, "c": (1, 2)}, "k": "y" * 64, "come": None}
    assert list(differences(old, new)) == [
        "a.b 1 -> 2", "gone 1 -> none", "k xxxxxxxxxxxx... -> yyyyyyyyyyyy...",
    ]  # fmt: skip
