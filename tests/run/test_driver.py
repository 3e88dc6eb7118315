"""The driver over real worker processes: caching, isolation, retries, signals, resuming."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from distillbench import boot
from distillbench.errors import BadInput, NotSupported
from distillbench.plan.stage import Plan, Stage
from distillbench.run.options import Outcome
from distillbench.run.redo import Surveyed
from distillbench.store.layout import Store
from distillbench.store.lease import Lease
from distillbench.store.record import Done

Chain = Callable[..., list[Stage]]
MakePlan = Callable[..., Plan]
Run = Callable[..., tuple[Outcome, str]]
Starts = Callable[[Store], Counter[str]]


@pytest.fixture
def run(run_plan: Run) -> Run:
    return run_plan


def test_everything_runs_once_and_is_cached_afterwards(
    store: Store, make_chain: Chain, make_plan: MakePlan, run: Run, starts: Starts
) -> None:
    plan = make_plan(make_chain("a", scores=2), make_chain("b", seed=1))
    outcome, shown = run(store, plan)
    assert (sorted(outcome.ran), outcome.exit_code) == (sorted(plan.stages), 0)
    assert "7 ran" in shown
    again, _ = run(store, plan)
    assert (again.cached, again.ran) == (list(plan.stages), [])
    assert set(starts(store).values()) == {1}
    assert "done   train  a train" in (store.root.parent / "exp" / "log.txt").read_text()


def test_a_cached_run_compares_every_stage_before_and_after_and_no_more(
    store: Store, make_chain: Chain, make_plan: MakePlan, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(make_chain("a", scores=2))
    run(store, plan)
    compared: Counter[str] = Counter()
    check = Done.check

    def counted(done: Done, folder: Path | str) -> None:
        compared[Path(folder).name] += 1
        check(done, folder)

    monkeypatch.setattr(Done, "check", counted)
    seen = Surveyed.of(plan, store)
    assert list(seen.done) == list(plan.stages)
    assert compared == dict.fromkeys(plan.stages, 1)
    assert run(store, plan)[0].cached == list(plan.stages)
    assert compared == dict.fromkeys(plan.stages, 3)


def test_a_survey_leaves_out_what_is_to_be_redone(
    store: Store, make_chain: Chain, make_plan: MakePlan, run: Run
) -> None:
    plan = make_plan(make_chain("a"))
    run(store, plan)
    first, *rest = plan.stages
    seen = Surveyed.of(plan, store).without({first})
    assert list(seen.done) == rest
    assert not seen.is_done(plan.stages[first].kind, first)
    assert store.is_done(plan.stages[first].kind, first)
    assert seen.root == store.root


def test_a_failure_blocks_its_descendants_alone_and_is_not_repeated(
    store: Store, make_chain: Chain, make_plan: MakePlan, run: Run
) -> None:
    bad, good = make_chain("bad", fault="raise", faults=1), make_chain("good")
    plan = make_plan(bad, good)
    outcome, shown = run(store, plan)
    assert list(outcome.failed) == [bad[0].key]
    assert outcome.blocked == [s.key for s in bad[1:]]
    assert sorted(outcome.ran) == sorted(s.key for s in good)
    assert outcome.exit_code == 1
    assert "FAILED train  bad train: ZeroDivisionError: made to fail" in shown
    assert f"log: {store.failure_log('train', bad[0].key)}" in shown
    again, shown = run(store, plan)
    assert (again.ran, again.exit_code) == ([], 1)
    assert "in an earlier run; --retry-failed" in shown
    healed, _ = run(store, plan, retry_failed=True)
    assert sorted(healed.ran) == sorted(s.key for s in bad)
    assert healed.exit_code == 0


def test_a_failed_teacher_run_blocks_the_trainings_that_start_from_it(
    store: Store, make_chain: Chain, make_plan: MakePlan, run: Run
) -> None:
    teacher = make_chain("tuned", fault="raise", faults=1)
    student = make_chain("student", seed=1)
    student[0] = replace(student[0], needs=(teacher[0].key,))
    outcome, shown = run(store, make_plan(teacher, student))
    assert list(outcome.failed) == [teacher[0].key]
    assert set(outcome.blocked) == {s.key for s in (*teacher[1:], *student)}
    assert "FAILED train  tuned train: ZeroDivisionError" in shown
    healed, _ = run(store, make_plan(teacher, student), retry_failed=True)
    assert healed.exit_code == 0


def test_a_stage_waits_for_whoever_writes_its_checkpoints(
    store: Store, make_chain: Chain, make_plan: MakePlan, run: Run, starts: Starts, released: Any
) -> None:
    stages = make_chain("cut")
    stages[0] = replace(stages[0], runtime={"threads": 1, "lineage": "f" * 20})
    lease = Lease.take(store.lease_path("train", "f" * 20))
    assert lease is not None
    plan = make_plan(stages)
    released(lease, store, plan, "wait   cut train: process")
    outcome, shown = run(store, plan)
    assert outcome.exit_code == 0
    assert shown.count("wait   cut train: process") == 1
    assert "another run has it" not in shown
    assert set(starts(store).values()) == {1}


def test_a_failure_for_an_outer_cause_is_remembered_and_tried_again(
    store: Store, make_chain: Chain, make_plan: MakePlan, run: Run
) -> None:
    stages = make_chain("row", fault="weights", faults=1)
    plan = make_plan(stages)
    outcome, _ = run(store, plan)
    assert outcome.exit_code == 1
    assert store.reason("train", stages[0].key) == "no weights; put them there"
    healed, _ = run(store, plan)
    assert sorted(healed.ran) == sorted(plan.stages)


def test_a_dead_worker_is_replaced_and_its_stage_resumes(
    store: Store, make_chain: Chain, make_plan: MakePlan, run: Run
) -> None:
    stages = make_chain("row", steps=6, fault="kill", faults=2, at=4)
    outcome, shown = run(store, make_plan(stages))
    assert outcome.exit_code == 0
    assert shown.count("ended by SIGKILL; trying again") == 2
    assert "attempt 3" in shown
    clean = Store(store.root.parent / "clean")
    run(clean, make_plan(stages))  # its own counter of faults: dies twice as well
    for stage in stages[1:]:
        names = {"sample": "samples.txt", "score": "scores.jsonl"}
        paths = [s.path(stage.kind, stage.key) / names[stage.kind] for s in (store, clean)]
        assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_stage_that_always_kills_its_worker_fails_for_good(
    store: Store, make_chain: Chain, make_plan: MakePlan, run: Run, starts: Starts
) -> None:
    bad, good = make_chain("bad", fault="kill"), make_chain("good")
    outcome, _ = run(store, make_plan(bad, good))
    assert "SIGKILL" in outcome.failed[bad[0].key]
    assert starts(store)[bad[0].key] == 3
    assert good[-1].key in outcome.ran
    assert not list((store.root / "train").glob("*.tmp-*"))


def test_out_of_memory_is_tried_twice(
    store: Store, make_chain: Chain, make_plan: MakePlan, run: Run, starts: Starts
) -> None:
    bad = make_chain("bad", fault="oom")
    outcome, _ = run(store, make_plan(bad))
    assert "MemoryError" in outcome.failed[bad[0].key]
    assert starts(store)[bad[0].key] == 2


def test_a_hung_stage_is_killed_with_its_children(
    store: Store, make_chain: Chain, make_plan: MakePlan, run: Run
) -> None:
    bad, good = make_chain("bad", fault="hang"), make_chain("good")
    outcome, _ = run(store, make_plan(bad, good), stale_after=2.0)
    assert "no sign of progress" in outcome.failed[bad[0].key]
    assert good[-1].key in outcome.ran
    assert store.holder("train", bad[0].key) is None
    child = int((store.root / "train" / f"{bad[0].key}-faults-child").read_text())
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_a_full_disk_ends_the_run_but_is_not_held_against_the_stage(
    store: Store, make_chain: Chain, make_plan: MakePlan, run: Run
) -> None:
    bad = make_chain("bad", fault="storage", faults=1)
    plan = make_plan(bad, make_chain("later", seed=1, steps=3, pause=0.05))
    outcome, shown = run(store, plan, workers=1)
    assert "no space left" in outcome.failed[bad[0].key]
    assert outcome.ran == []
    assert "stopping" in shown
    again, _ = run(store, plan)
    assert again.exit_code == 0


def test_fail_fast_stops_the_rest(
    store: Store, make_chain: Chain, make_plan: MakePlan, run: Run
) -> None:
    bad, slow = make_chain("bad", fault="raise"), make_chain("slow", steps=400, pause=0.05)
    later = make_chain("later", seed=5)
    outcome, _ = run(store, make_plan(bad, slow, later), fail_fast=True)
    assert outcome.exit_code == 1
    assert outcome.ran == []
    assert set(outcome.blocked) == {s.key for s in (*bad[1:], *slow[1:], *later)}


def test_altered_results_are_named_and_redone_on_request(
    store: Store, make_chain: Chain, make_plan: MakePlan, run: Run
) -> None:
    stages = make_chain("row")
    plan = make_plan(stages)
    run(store, plan)
    samples = store.path("sample", stages[1].key) / "samples.txt"
    want = samples.read_bytes()
    samples.write_bytes(b"")
    outcome, _ = run(store, plan)
    assert str(samples) in outcome.failed[stages[1].key]
    assert outcome.cached == [stages[0].key, stages[2].key]
    healed, shown = run(store, plan, retry_failed=True)
    assert healed.ran == [stages[1].key]
    assert ".bad-1" in shown
    assert samples.read_bytes() == want


def test_missing_gpus_are_refused_before_anything_starts(
    store: Store, make_chain: Chain, make_plan: MakePlan, run: Run
) -> None:
    with pytest.raises(BadInput, match="--gpus 64"):
        run(store, make_plan(make_chain("row")), gpus=64)
    assert not (store.root / "events.jsonl").exists()


def test_a_stage_wider_than_the_machine_is_refused(
    store: Store, make_chain: Chain, make_plan: MakePlan, run: Run
) -> None:
    stages = make_chain("wide", processes=3)
    with pytest.raises(BadInput, match="wide train: needs 3 slots"):
        run(store, make_plan(stages), workers=2)
    outcome, _ = run(store, make_plan(stages, make_chain("row")), workers=3)
    assert outcome.exit_code == 0


def test_workers_that_cannot_start_say_why(
    store: Store, make_chain: Chain, make_plan: MakePlan, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = store.root.parent / "broken"
    (broken / "distillbench").mkdir(parents=True)
    (broken / "distillbench" / "__init__.py").write_text("raise RuntimeError('half installed')")
    monkeypatch.setattr(boot, "_PACKAGE", str(broken / "distillbench"))
    with pytest.raises(NotSupported, match="half installed"):
        run(store, make_plan(make_chain("row")))


def test_leftovers_of_a_dead_run_are_swept(
    store: Store, make_chain: Chain, make_plan: MakePlan, run: Run
) -> None:
    left: Path = store.begin("train", "0" * 20)
    run(store, make_plan(make_chain("row")))
    assert not left.exists()
