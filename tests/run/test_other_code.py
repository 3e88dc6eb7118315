"""Checkpoints and results that other code made: never continued, never mixed, redone when asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from distillbench.plan.stage import Stage
from distillbench.run import worker
from distillbench.run.worker import run_stage
from distillbench.store import redo
from distillbench.store.layout import Store
from distillbench.store.record import Done

Chain = Callable[..., list[Stage]]


def run(store: Store, stage: Stage, **options: Any) -> Any:
    return run_stage(stage, store_root=store.root, **options)


@pytest.fixture
def code(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes this process be of another code."""
    true = worker.provenance

    def become(torch: str = "", **files: str) -> None:
        def provenance(stage: Stage, **given: Any) -> dict[str, Any]:
            found = true(stage, **given)
            versions = {**found["packages"], **({"torch": torch} if torch else {})}
            plugin = {"name": "m", "source": "m.py", "sha256": str(files), "files": files}
            return {**found, "packages": versions, "plugins": {"method": plugin}}

        monkeypatch.setattr(worker, "provenance", provenance)

    return become


def stopped(store: Store, stage: Stage, after: int) -> None:
    answers = iter([False] * after + [True])
    assert run(store, stage, should_stop=lambda: next(answers)).status == "stopped"


CHANGES = [
    ({"torch": "1.0"}, {"torch": "2.0"}, "torch 1.0, now 2.0"),
    ({"a": "1", "b": "1"}, {"a": "1", "b": "2"}, "source of method m"),
    ({"a": "1"}, {"a": "1", "b": "2"}, "(b)"),
    ({"a": "1", "b": "1"}, {"a": "1"}, "(b)"),
]


@pytest.mark.parametrize(("before", "after", "told"), CHANGES)
def test_a_checkpoint_of_other_code_is_kept_and_not_continued(
    store: Store, make_chain: Chain, code: Any, before: Any, after: Any, told: str
) -> None:
    stage = make_chain("row", steps=9)[0]
    code(**before)
    stopped(store, stage, 5)
    code(**after)
    stopped(store, stage, 3)  # begun anew: it stops at its own third step
    folder = store.checkpoints("train", stage.key)
    assert json.loads((folder / "was-1" / "state.json").read_text())["step"] == 5
    assert (folder / "was-1" / "attempts.jsonl").exists()
    assert json.loads((folder / "state.json").read_text())["step"] == 3
    done = run(store, stage)
    assert (done.status, done.notes) == ("done", ())  # by the same code: continued
    record = json.loads((store.path("train", stage.key) / "provenance.json").read_text())
    assert len(record["attempts"]) == 2
    assert not folder.exists()
    code(**before)
    again = make_chain("row", steps=9, name=told)[0]
    stopped(store, again, 5)
    code(**after)
    (note,) = run(store, again).notes
    assert "made by other code" in note
    assert told in note
    assert "starts anew" in note


def test_checkpoints_of_the_same_code_are_continued(
    store: Store, make_chain: Chain, code: Any
) -> None:
    stage = make_chain("row", steps=9)[0]
    code("1.0", a="1")
    stopped(store, stage, 5)
    code("1.0", a="1")
    assert run(store, stage).notes == ()
    attempts = json.loads((store.path("train", stage.key) / "provenance.json").read_text())
    assert len(attempts["attempts"]) == 2


def test_other_code_twice_keeps_both(store: Store, make_chain: Chain, code: Any) -> None:
    stage = make_chain("row", steps=9)[0]
    for version in ("1", "2", "3"):
        code(version)
        stopped(store, stage, 4)
    kept = store.checkpoints("train", stage.key).glob("was-*/state.json")
    assert len(list(kept)) == 2


# ---- --redo-changed --------------------------------------------------------------------------


def age(store: Store, stages: list[Stage], *, content: bool = False) -> dict[str, str]:
    """Make finished stages look as if another torch had made them; content of each file then.

    Args:
        content: with another result, too.
    """
    known: dict[str, str] = {}
    for stage in stages:
        folder = store.path(stage.kind, stage.key)
        record = json.loads((folder / "provenance.json").read_text())
        for attempt in record["attempts"] if stage is stages[0] else ():
            attempt["packages"]["torch"] = "0.1"
        (folder / "provenance.json").write_text(json.dumps(record))
        for name in ("student.txt", "samples.txt", "scores.jsonl") if content else ():
            if (folder / name).exists():
                (folder / name).write_text("of old")
        before = Done.read(folder)
        inputs = {name: known.get(name, was) for name, was in before.inputs.items()}
        Done.of(folder, inputs=inputs).write(folder)
        known[f"{stage.kind}/{stage.key}"] = store.content(stage.kind, stage.key)
        assert store.is_done(stage.kind, stage.key)
    return known


def left(store: Store) -> list[str]:
    """What of a replacement is in the store."""
    return sorted(p.name.partition(".")[2] for p in store.root.glob("*/*.*"))


def test_what_other_code_made_is_made_anew_when_asked_and_only_then(
    store: Store, make_chain: Chain, make_plan: Any, run_plan: Any, starts: Any
) -> None:
    old, other = make_chain("old"), make_chain("other", seed=1)
    plan = make_plan(old, other)
    run_plan(store, plan)
    true = {s.key: store.content(s.kind, s.key) for s in old}
    age(store, old, content=True)
    outcome, _ = run_plan(store, plan)
    assert (len(outcome.cached), outcome.ran) == (6, [])
    outcome, shown = run_plan(store, plan, redo_changed=True)
    assert (outcome.exit_code, len(outcome.cached), len(outcome.ran)) == (0, 3, 3)
    assert "3 stage(s) that other code made" in shown
    assert {s.key: store.content(s.kind, s.key) for s in old} == true
    assert left(store) == []
    assert [starts(store)[s.key] for s in (*old, *other)] == [2, 2, 2, 1, 1, 1]
    outcome, _ = run_plan(store, plan, redo_changed=True)
    assert outcome.ran == []


def test_the_old_results_stay_when_the_new_cannot_be_made(
    store: Store, make_chain: Chain, make_plan: Any, run_plan: Any
) -> None:
    stages = make_chain("row", fault="raise", faults=1)
    memory = store.root / "train" / f"{stages[0].key}-faults"
    memory.write_text("1")  # the first run goes well
    run_plan(store, make_plan(stages))
    known = age(store, stages, content=True)
    memory.write_text("0")
    outcome, _ = run_plan(store, make_plan(stages), redo_changed=True)
    assert (outcome.exit_code, len(outcome.failed), len(outcome.blocked)) == (1, 1, 2)
    assert {f"{s.kind}/{s.key}": store.content(s.kind, s.key) for s in stages} == known
    assert all(store.is_done(s.kind, s.key) for s in stages)
    outcome, _ = run_plan(store, make_plan(stages))  # and they are used
    assert (outcome.exit_code, len(outcome.cached)) == (0, 3)
    outcome, _ = run_plan(store, make_plan(stages), redo_changed=True)
    assert (outcome.exit_code, len(outcome.ran)) == (0, 3)
    assert left(store) == []


def test_half_a_replacement_is_never_mixed_and_the_same_command_goes_on(
    store: Store, make_chain: Chain, make_plan: Any, run_plan: Any
) -> None:
    stages = make_chain("row")
    train, sample, _ = stages
    plan = make_plan(stages)
    run_plan(store, plan)
    true = [store.content(s.kind, s.key) for s in stages]
    age(store, stages, content=True)
    for stage in stages:
        redo.ask(store.path(stage.kind, stage.key))
    assert run(store, train).status == "done"  # then the machine dies
    assert not store.is_done("sample", sample.key)  # of the old training: in no table
    store.prepare()
    assert left(store) == ["redo", "redo", "was-1"]  # the old training: samples stand on it
    assert (store.path("sample", sample.key) / "samples.txt").read_text() == "of old"
    outcome, _ = run_plan(store, plan, redo_changed=True)
    assert (outcome.exit_code, len(outcome.cached), len(outcome.ran)) == (0, 1, 2)
    assert [store.content(s.kind, s.key) for s in stages] == true
    assert left(store) == []


def test_a_machine_that_dies_between_the_two_renames_loses_nothing(
    store: Store, make_chain: Chain
) -> None:
    train = make_chain("row")[0]
    run(store, train)
    folder = store.path("train", train.key)
    redo.ask(folder)
    moved = redo.aside(folder, "was")
    assert moved.name.endswith(".was-1")
    Store(store.root).prepare()
    assert store.is_done("train", train.key)
    assert not moved.exists()


def test_checkpoints_of_a_replacement_outlive_an_interrupt(
    store: Store, make_chain: Chain, make_plan: Any, run_plan: Any
) -> None:
    stages = make_chain("row", steps=9)
    run_plan(store, make_plan(stages))
    age(store, stages)
    redo.ask(store.path("train", stages[0].key))
    stopped(store, stages[0], 5)
    store.prepare()
    saved = store.checkpoints("train", stages[0].key) / "state.json"
    assert json.loads(saved.read_text())["step"] == 5
    run_plan(store, make_plan(stages), redo_changed=True)
    record = json.loads((store.path("train", stages[0].key) / "provenance.json").read_text())
    assert len(record["attempts"]) == 2
    assert not saved.exists()


def test_what_is_damaged_is_told_and_not_replaced_unasked(
    store: Store, make_chain: Chain, make_plan: Any, run_plan: Any
) -> None:
    stages = make_chain("row")
    run_plan(store, make_plan(stages))
    age(store, stages)
    (store.path("score", stages[2].key) / "scores.jsonl").write_text("damaged")
    outcome, _ = run_plan(store, make_plan(stages), redo_changed=True)
    assert (list(outcome.failed), len(outcome.ran)) == ([stages[2].key], 2)
