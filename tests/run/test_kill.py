"""kill -9 in the middle: nothing finished is redone, and the results are the same bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest

from distillbench.plan.stage import Plan, Stage
from distillbench.run.options import Outcome
from distillbench.store.layout import Store

Chain = Callable[..., list[Stage]]
MakePlan = Callable[..., Plan]
Run = Callable[..., tuple[Outcome, str]]
Starts = Callable[[Store], Counter[str]]

DRIVER = """
import json, sys
import fakestages
from distillbench.run.driver import execute
from distillbench.run.options import RunOptions
from distillbench.plan.stage import Plan, Stage
from distillbench.store.layout import Store
root, raw = sys.argv[1:]
stages = [Stage(**{**s, "needs": tuple(s["needs"])}) for s in json.loads(raw)]
fakestages.install()
plan = Plan("exp", {s.key: s for s in stages}, ())
sys.exit(execute(plan, Store(root), RunOptions(gpus=0, workers=2)).exit_code)
"""


def start_driver(store: Store, plan: Plan) -> subprocess.Popen[bytes]:
    """A driver in a process of its own."""
    raw = [
        {"kind": s.kind, "key": s.key, "spec": dict(s.spec), "needs": s.needs, "label": s.label}
        for s in plan.stages.values()
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", DRIVER, str(store.root), json.dumps(raw)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def has_lines(path: Path, count: int) -> bool:
    return path.exists() and path.read_text().count("\n") >= count


def results(store: Store, plan: Plan) -> dict[str, bytes]:
    names = {"train": "student.txt", "sample": "samples.txt", "score": "scores.jsonl"}
    return {
        key: (store.path(stage.kind, key) / names[stage.kind]).read_bytes()
        for key, stage in plan.stages.items()
    }


@pytest.fixture
def plan(make_chain: Chain, make_plan: MakePlan) -> Plan:
    """Three short chains and a long one."""
    short = [make_chain(f"row{i}", seed=i, steps=4, pause=0.02) for i in range(3)]
    return make_plan(*short, make_chain("long", seed=9, steps=60, pause=0.05))


def test_workers_end_with_their_driver(store: Store, plan: Plan) -> None:
    driver = start_driver(store, plan)
    holders = [(s.kind, k) for k, s in plan.stages.items() if s.label == "long train"]
    wait_until(lambda: store.holder(*holders[0]) is not None)
    children = psutil.Process(driver.pid).children(recursive=True)
    assert children
    driver.kill()
    driver.wait()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []


def test_a_killed_grid_resumes_to_the_same_bytes(
    store: Store, plan: Plan, run_plan: Run, starts: Starts
) -> None:
    finished: dict[str, int] = {}
    for lines in (3, 8, 13):
        driver = start_driver(store, plan)
        wait_until(partial(has_lines, store.root / "events.jsonl", lines))
        driver.kill()
        driver.wait()
        for key in [key for kind in ("train", "sample", "score") for key in store.keys(kind)]:
            finished.setdefault(key, starts(store)[key])
    assert 0 < len(finished) < len(plan.stages)
    outcome, _ = run_plan(store, plan)
    assert outcome.exit_code == 0
    after = starts(store)
    assert {key: after[key] for key in finished} == finished
    clean = Store(store.root.parent / "clean")
    run_plan(clean, plan)
    assert results(store, plan) == results(clean, plan)
    left = [p.name for p in Path(store.root / "train").iterdir() if "." in p.name]
    assert left == []
