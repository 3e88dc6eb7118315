"""Stages that share a GPU: what each sees, and how many start at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from distillbench.errors import BadInput
from distillbench.plan.stage import Plan, Stage
from distillbench.run import local, options
from distillbench.run.local import shared
from distillbench.run.options import RunOptions, open_executor
from distillbench.store.layout import Store

Chain = Callable[..., list[Stage]]
MakePlan = Callable[..., Plan]


def test_stages_spread_over_the_gpus_before_they_share_one() -> None:
    assert shared(("0", "GPU-ab"), 1) == ("0", "GPU-ab")
    assert shared(("0", "GPU-ab"), 2) == ("0@0", "GPU-ab@0", "0@1", "GPU-ab@1")
    assert shared((), 3) == ()


def test_a_worker_sees_the_gpu_of_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []
    monkeypatch.setattr(local.subprocess, "Popen", lambda command, **given: seen.append(given))
    for slots in (("1@0",), ("1@2",), ("0", "3")):
        local._Worker(slots, "cuda", 1)
    assert [given["env"]["CUDA_VISIBLE_DEVICES"] for given in seen] == ["1", "1", "0,3"]


def opened(monkeypatch: pytest.MonkeyPatch, plan: Plan, store: Store, **given: Any) -> Any:
    """What the runner is started with on a machine of two GPUs."""
    made: dict[str, Any] = {"widest": 99, "room": "", "close": lambda: None}
    monkeypatch.setattr(options, "choose_gpus", lambda wanted: ("0", "1")[:wanted])

    def start(root: Any, **told: Any) -> Any:
        made.update(told)
        return type("Fake", (), made)

    monkeypatch.setattr(local, "LocalExecutor", start)
    open_executor(plan, store, RunOptions(**given), run="r")
    return made


def test_shares_are_slots_and_workers_bound_them(
    monkeypatch: pytest.MonkeyPatch, store: Store, make_chain: Chain, make_plan: MakePlan
) -> None:
    plan = make_plan(make_chain("row"))
    assert opened(monkeypatch, plan, store, per_gpu=3)["slots"] == shared(("0", "1"), 3)
    assert opened(monkeypatch, plan, store, per_gpu=3, gpus=1)["slots"] == shared(("0",), 3)
    made = opened(monkeypatch, plan, store, per_gpu=3, workers=3)
    assert (made["slots"], made["device"]) == (("0@0", "1@0", "0@1"), "cuda")


def test_a_training_of_several_processes_shares_nothing(
    monkeypatch: pytest.MonkeyPatch, store: Store, make_chain: Chain, make_plan: MakePlan
) -> None:
    plan = make_plan(make_chain("wide", processes=2))
    with pytest.raises(BadInput, match="--per-gpu: a training with"):
        opened(monkeypatch, plan, store, per_gpu=2)
    with pytest.raises(BadInput, match="--per-gpu 0: too few"):
        opened(monkeypatch, plan, store, per_gpu=0)
