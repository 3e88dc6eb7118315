"""One stage in this process: what is committed, and how each kind of ending is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distillbench.errors import ConfigError, MissingWeights
from distillbench.plan.stage import Stage
from distillbench.run import worker
from distillbench.run.executor import Assignment
from distillbench.run.worker import error_line, run_stage
from distillbench.store.layout import Store
from distillbench.store.lease import Lease

Chain = Callable[..., list[Stage]]


def run(store: Store, stage: Stage, **options: Any) -> Any:
    return run_stage(stage, store_root=store.root, **options)


def events(store: Store) -> list[str]:
    lines = (store.root / "events.jsonl").read_text().splitlines()
    return [json.loads(line)["event"] for line in lines]


def test_a_chain_of_stages_reads_each_others_output(store: Store, make_chain: Chain) -> None:
    stages = make_chain("row")
    assert [run(store, stage).status for stage in stages] == ["done"] * 3
    folder = store.verify("train", stages[0].key)
    names = {p.name for p in folder.iterdir()}
    assert names == {"student.txt", "spec.json", "log.txt", "provenance.json", "done.json"}
    assert json.loads((folder / "spec.json").read_text())["spec"] == dict(stages[0].spec)
    log = (folder / "log.txt").read_text()
    assert "trained on cpu\nfrom a subprocess\n" in log
    for text in (f"start train {stages[0].key} (row train), attempt 1", "1 thread(s)",
                 '"updates": 4', "2/4  loss 0.5", "4/4  loss 0.25", "end after"):  # fmt: skip
        assert text in log
    for stage in stages[1:]:  # which print nothing themselves
        assert "end after" in (store.path(stage.kind, stage.key) / "log.txt").read_text()
    attempts = json.loads((folder / "provenance.json").read_text())["attempts"]
    assert attempts[0]["attempt"] == 1
    assert "torch" in attempts[0]["packages"]
    assert events(store) == ["start", "commit"] * 3


def test_a_finished_stage_is_not_run_again(store: Store, make_chain: Chain) -> None:
    stage = make_chain("row")[0]
    run(store, stage)
    assert run(store, stage).status == "cached"
    assert events(store) == ["start", "commit"]


def test_a_leased_stage_is_left_to_its_holder(store: Store, make_chain: Chain) -> None:
    stage = make_chain("row")[0]
    lease = Lease.take(store.lease_path("train", stage.key))
    assert lease is not None
    assert run(store, stage).status == "busy"
    lease.release()
    assert run(store, stage).status == "done"


def test_a_stopped_training_continues_to_the_same_bytes(store: Store, make_chain: Chain) -> None:
    stage = make_chain("row", steps=9)[0]
    answers = iter([False] * 5 + [True])
    stopped = run(store, stage, should_stop=lambda: next(answers))
    assert stopped.status == "stopped"
    assert "step 5 of 9" in stopped.error
    assert [p.suffix for p in (store.root / "train").iterdir()] == [".ckpt"]
    assert run(store, stage, attempt=2).status == "done"
    folder = store.verify("train", stage.key)
    attempts = json.loads((folder / "provenance.json").read_text())["attempts"]
    assert [a["attempt"] for a in attempts] == [1, 2]
    assert not store.checkpoints("train", stage.key).exists()
    whole = Store(store.root.parent / "whole")
    whole.prepare()
    run(whole, stage)
    student = whole.path("train", stage.key) / "student.txt"
    assert (folder / "student.txt").read_bytes() == student.read_bytes()


def test_stages_of_one_training_share_its_checkpoints(store: Store, make_chain: Chain) -> None:
    whole = make_chain("row", steps=9)[0]
    cut, late = (
        replace(make_chain("row", steps=n)[0], runtime={"threads": 1, "lineage": whole.key})
        for n in (4, 6)
    )
    assert run(store, cut).status == "done"
    kept = store.checkpoints("train", whole.key)
    assert json.loads((kept / "state.json").read_text())["step"] == 4
    held = Lease.take(store.lease_path("train", whole.key))
    assert held is not None
    assert run(store, late).status == "busy"  # the whole training is writing them now
    held.release()
    assert run(store, whole).status == "done"
    assert not kept.exists()
    assert run(store, late).status == "done"  # from its beginning, and nothing is left behind
    assert not kept.exists()


@pytest.mark.parametrize("fault", ["", "raise"])
def test_who_lost_the_stage_leaves_the_new_holders_output_alone(
    store: Store, make_chain: Chain, fault: str
) -> None:
    stage = make_chain("row", steps=4, **({"fault": fault, "at": 2} if fault else {}))[0]
    theirs = store.root / "train" / f"{stage.key}.tmp-theirs"

    def lose() -> bool:
        theirs.mkdir(exist_ok=True)
        path = store.lease_path("train", stage.key)
        path.write_text(json.dumps(json.loads(path.read_text()) | {"token": "theirs"}))
        return not fault

    assert run(store, stage, should_stop=lose).status == "busy"
    assert theirs.is_dir()
    assert store.failure("train", stage.key) is None


def test_a_stage_stops_when_it_loses_the_checkpoints_it_writes(
    store: Store, make_chain: Chain
) -> None:
    whole = make_chain("row", steps=9)[0]
    cut = replace(make_chain("row", steps=4)[0], runtime={"threads": 1, "lineage": whole.key})
    asked = 0

    def lose() -> bool:
        nonlocal asked
        asked += 1
        if asked == 2:  # a run on another machine thought us dead
            path = store.lease_path("train", whole.key)
            taken = json.loads(path.read_text()) | {"token": "theirs"}
            path.write_text(json.dumps(taken))
        return False

    result = run(store, cut, should_stop=lose)
    assert result.status == "stopped"
    assert "taken over" in result.error
    assert not store.is_done("train", cut.key)


@pytest.mark.parametrize(
    ("fault", "status", "text"),
    [
        ("raise", "failed", "ZeroDivisionError: made to fail (fakestages.py:"),
        ("oom", "oom", "MemoryError: made to fail"),
        ("storage", "storage", "no space left on the disk"),
    ],
)
def test_endings_are_told_apart(
    store: Store, make_chain: Chain, fault: str, status: str, text: str
) -> None:
    stage = make_chain("row", fault=fault)[0]
    result = run(store, stage)
    assert result.status == status
    assert text in result.error
    assert "\n" not in result.error
    assert "Traceback" in Path(result.log).read_text()
    assert not store.is_done("train", stage.key)
    assert store.holder("train", stage.key) is None
    assert not list((store.root / "train").glob("*.tmp-*"))


def test_altered_input_is_refused_and_remembered(store: Store, make_chain: Chain) -> None:
    trained, sampled, _ = make_chain("row")
    run(store, trained)
    path = store.path("train", trained.key) / "student.txt"
    path.write_text("0" * len(path.read_text()))
    result = run(store, sampled)
    assert (result.status, result.lasting) == ("failed", False)
    assert "student.txt: altered" in result.error
    assert "--retry-failed" in result.error
    assert not store.is_done("train", trained.key)
    again = run(store, trained)
    assert again.status == "failed"
    assert "student.txt" in again.error


def test_jobs_survive_their_json(make_chain: Chain) -> None:
    job = Assignment(make_chain("row")[1], "/store", run="r", device="cuda", attempt=2)
    assert Assignment.from_json(json.loads(json.dumps(job.to_json()))) == job


def test_user_errors_keep_their_hint_and_lose_their_lines() -> None:
    assert error_line(MissingWeights("no weights", hint="put them there")) == (
        "no weights; put them there"
    )
    assert error_line(ConfigError(["a: wrong", "b: wrong"])) == "a: wrong b: wrong"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (type("OutOfMemoryError", (RuntimeError,), {})("x"), True),
        (ValueError("out of memory"), False),
        (RuntimeError("shape mismatch"), False),
    ],
)
def test_out_of_memory_is_recognised(error: Exception, expected: bool) -> None:
    assert worker._is_oom(error) is expected


def test_reference_sets_reach_the_score(store: Store, make_chain: Chain) -> None:
    first, second = make_chain("a"), make_chain("b", seed=1)
    for stage in (*first[:2], *second[:2]):
        run(store, stage)
    alone = replace(first[2], key="a" * 20)
    against = replace(first[2], key="b" * 20, needs=(first[1].key, second[1].key))
    values = []
    for stage in (alone, against):
        assert run(store, stage).status == "done"
        values.append((store.path("score", stage.key) / "scores.jsonl").read_text())
    assert values[0] != values[1]
