"""The Ray runner: same bytes and same policy as the local one, with simulated GPUs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from distillbench.plan.stage import Plan, Stage
from distillbench.run.executor import Result
from distillbench.run.options import Outcome
from distillbench.store.layout import Store

ray = pytest.importorskip("ray")
from distillbench.run.ray import RayExecutor, run_job  # noqa: E402

Chain = Callable[..., list[Stage]]
MakePlan = Callable[..., Plan]
Run = Callable[..., tuple[Outcome, str]]


@pytest.fixture(autouse=True)
def _fake_tasks(monkeypatch: pytest.MonkeyPatch, fakes: None) -> None:
    monkeypatch.setattr("distillbench.run.ray.JOB", "fakestages:run_job")


@pytest.fixture(scope="module", autouse=True)
def _cluster(alone: None) -> Iterator[None]:
    """One small Ray for the whole file: starting one takes seconds."""
    ray.init(
        address="local", num_cpus=2, num_gpus=4, include_dashboard=False, log_to_driver=False,
        logging_level="ERROR", object_store_memory=100 * 2**20,
    )  # fmt: skip
    yield
    ray.shutdown()


def drain(executor: RayExecutor) -> list[Result]:
    results: list[Result] = []
    while executor._running:
        results += executor.poll(1.0)
    return results


def test_ray_and_local_make_the_same_bytes(
    store: Store, make_chain: Chain, make_plan: MakePlan, run_plan: Run
) -> None:
    bad = make_chain("bad", seed=7, fault="raise")
    flaky = make_chain("flaky", seed=8, fault="kill", faults=1, at=3)
    plan = make_plan(make_chain("a"), make_chain("b", seed=1), bad, flaky)
    local = Store(store.root.parent / "local")
    outcomes = [run_plan(store, plan, runner="ray")[0], run_plan(local, plan)[0]]
    for outcome in outcomes:
        assert sorted(outcome.failed) == [bad[0].key]
        assert len(outcome.ran) == 9
    names = {"train": "student.txt", "sample": "samples.txt", "score": "scores.jsonl"}
    for key in outcomes[0].ran:
        kind = plan.stages[key].kind
        mine, theirs = (s.path(kind, key) / names[kind] for s in (store, local))
        assert mine.read_bytes() == theirs.read_bytes()


def test_each_stage_gets_gpus_of_its_own(store: Store, make_chain: Chain) -> None:
    executor = RayExecutor(store.root, device="cuda")
    assert (executor.capacity, executor.widest, executor.free) == (4, 4, 4)
    stages = [
        make_chain(f"row{i}", seed=i, steps=4, processes=width, visible=True)[0]
        for i, width in enumerate((1, 2, 1))
    ]
    for stage in stages:
        executor.submit(stage, attempt=1)
    assert executor.free == 0
    assert [r.status for r in drain(executor)] == ["done"] * 3
    seen = [(store.path("train", s.key) / "visible.txt").read_text().split(",") for s in stages]
    assert [len(gpus) for gpus in seen] == [1, 2, 1]
    assert len({gpu for gpus in seen for gpu in gpus}) == 4
    assert executor.free == 4
    executor.close()


def test_stages_share_gpus_where_they_are_told_to(store: Store, make_chain: Chain) -> None:
    executor = RayExecutor(store.root, device="cuda", per_gpu=3, limit=6)
    assert (executor.capacity, executor.widest, executor.free) == (6, 6, 6)
    stages = [make_chain(f"row{i}", seed=i, steps=4, visible=True)[0] for i in range(6)]
    for stage in stages:
        executor.submit(stage, attempt=1)
    assert executor.free == 0
    assert [r.status for r in drain(executor)] == ["done"] * 6
    seen = [(store.path("train", s.key) / "visible.txt").read_text().split(",") for s in stages]
    assert all(len(gpus) == 1 and gpus[0] for gpus in seen)
    executor.close()


def test_stop_checkpoints_and_kill_forgets(store: Store, make_chain: Chain) -> None:
    executor = RayExecutor(store.root, device="cpu")
    slow = make_chain("slow", steps=2000, pause=0.02)[0]
    hung = make_chain("hung", seed=1, fault="hang")[0]
    for stage in (slow, hung):
        executor.submit(stage, attempt=1)
    # Claimed is not yet hung: a stage that is stopped before that stops like any other.
    hanging = store.checkpoints("train", hung.key).with_name(f"{hung.key}-faults-child")
    while not (store.holder("train", slow.key) and hanging.exists()):
        assert executor.poll(0.1) == []
    executor.stop()
    assert [(r.key, r.status) for r in executor.poll(60)] == [(slow.key, "stopped")]
    assert (store.checkpoints("train", slow.key) / "state.json").exists()
    executor.kill(hung.key)
    assert drain(executor) == []
    assert executor.free == 2
    executor.close()
    assert not Path(executor._stop_file).exists()


def test_a_job_runs_by_name_and_returns_plain_data(
    store: Store, make_chain: Chain, tmp_path: Path
) -> None:
    from distillbench.run.executor import Assignment

    assert run_job.__module__ == "distillbench.run.ray"
    job = Assignment(make_chain("row")[0], str(store.root))
    result = run_job(json.loads(json.dumps(job.to_json())), str(tmp_path), "no such file")
    assert result["status"] == "done"
