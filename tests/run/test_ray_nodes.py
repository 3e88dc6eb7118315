"""A Ray cluster that loses nodes: the run finishes on what is left, or fails and says why."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from distillbench.errors import BadInput
from distillbench.plan.stage import Plan, Stage
from distillbench.run.options import Outcome
from distillbench.store.layout import Store

ray = pytest.importorskip("ray")
from ray.cluster_utils import Cluster  # noqa: E402

Chain = Callable[..., list[Stage]]
MakePlan = Callable[..., Plan]
Run = Callable[..., tuple[Outcome, str]]


@pytest.fixture(autouse=True)
def _fake_tasks(monkeypatch: pytest.MonkeyPatch, fakes: None) -> None:
    monkeypatch.setattr("distillbench.run.ray.JOB", "fakestages:run_job")


@pytest.fixture
def cluster(alone: None) -> Iterator[Any]:
    """A head that runs no stages; tests add the nodes that do."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def plan(make_chain: Chain, make_plan: MakePlan) -> Plan:
    """Four chains of a few seconds each."""
    return make_plan(*(make_chain(f"row{i}", seed=i, steps=30, pause=0.1) for i in range(4)))


def once_begun(store: Store, plan: Plan, node: Any, act: Callable[[], None]) -> None:
    """Call `act` in a thread when a process of the node has told of the first step of a stage."""
    raylets = {info.process.pid for info in node.all_processes["raylet"]}
    trains = [key for key, stage in plan.stages.items() if stage.kind == "train"]

    def at_work() -> bool:
        holders = [store.holder("train", key) for key in trains]
        pids = [holder.pid for holder in holders if holder is not None and holder.progress]
        return any(parent.pid in raylets for pid in pids for parent in parents(pid))

    def wait() -> None:
        while not at_work():
            time.sleep(0.05)
        act()

    threading.Thread(target=wait, daemon=True).start()


def parents(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).parents()
    except psutil.Error:
        return []


def kill_raylet(node: Any) -> None:
    """End the process that stands for a node, as a crashed machine would."""
    for info in node.all_processes["raylet"]:
        psutil.Process(info.process.pid).kill()


@pytest.mark.parametrize("how", ["removed", "raylet killed"])
def test_stages_of_a_lost_node_run_on_another(
    cluster: Any, store: Store, plan: Plan, run_plan: Run, how: str
) -> None:
    lost = cluster.add_node(num_cpus=1)
    cluster.add_node(num_cpus=1)
    end = (lambda: kill_raylet(lost)) if how != "removed" else (lambda: cluster.remove_node(lost))
    once_begun(store, plan, lost, end)
    outcome, shown = run_plan(store, plan, runner="ray", address=cluster.address, workers=None)
    assert (outcome.exit_code, sorted(outcome.ran)) == (0, sorted(plan.stages))
    assert how != "removed" or "trying again" in shown  # a worker may outlive its raylet
    assert all(store.is_done(stage.kind, key) for key, stage in plan.stages.items())


def test_when_the_last_node_is_lost_the_run_says_so_and_fails(
    cluster: Any, store: Store, plan: Plan, run_plan: Run
) -> None:
    lost = cluster.add_node(num_cpus=2)
    once_begun(store, plan, lost, lambda: cluster.remove_node(lost))
    outcome, shown = run_plan(
        store, plan, runner="ray", address=cluster.address, workers=None, room_wait=3.0
    )
    assert outcome.exit_code == 1
    assert {*outcome.failed, *outcome.blocked, *outcome.ran} == set(plan.stages)
    assert "needs 1 slot(s) on one machine; there are 0 (1 node(s): 0 CPU + 0 GPU)" in shown


def test_a_cluster_without_what_a_stage_needs_is_refused(
    cluster: Any, store: Store, plan: Plan, run_plan: Run
) -> None:
    with pytest.raises(BadInput, match=r"needs 1 CPU on a node; the cluster .* has 1 node"):
        run_plan(store, plan, runner="ray", address=cluster.address, workers=None)
