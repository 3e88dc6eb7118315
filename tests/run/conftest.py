"""Plans of fake stages, and a store to run them in."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distillbench.plan.stage import Plan, Stage
from distillbench.run.driver import execute
from distillbench.run.options import Outcome, RunOptions
from distillbench.run.progress import ProgressLog
from distillbench.store.layout import Store
from distillbench.store.lease import Lease
from distillbench.testing.specs import sample_spec, score_spec, train_spec


@pytest.fixture(autouse=True)
def _fakes_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch, _fakes_are_importable: None) -> None:
    """Fake stages in this process, and in the workers that it starts."""
    import fakestages

    fakestages.install(monkeypatch.setattr)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    made = Store(tmp_path / "results" / "store")
    made.prepare()
    return made


def _stage(kind: Any, needs: tuple[str, ...], label: str, **spec: Any) -> Stage:
    text = json.dumps([kind, needs, spec], sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:20]
    return Stage(kind, key, spec, needs=needs, runtime={"threads": 1}, label=label)


def chain(
    label: str, *, seed: int = 0, steps: int = 4, scores: int = 1, processes: int = 1, **told: Any
) -> list[Stage]:
    """A training with one sample set and some scores; `told` goes to the training's method."""
    spec = train_spec("teacher", told, seed=seed, updates=steps, processes=processes)
    trained = _stage("train", (), f"{label} train", **spec)
    sampled = _stage("sample", (trained.key,), f"{label} sample", **sample_spec(trained.key))
    metrics = [{"name": "coverage", "version": 1, "params": {"column": i}, "revision": ""}
               for i in range(scores)]  # fmt: skip
    return [
        trained,
        sampled,
        *(
            _stage("score", (sampled.key,), f"{label} score {i}",
                   **score_spec(sampled.key, metric=metric))
            for i, metric in enumerate(metrics)
        ),
    ]  # fmt: skip


def plan(*chains: list[Stage]) -> Plan:
    """A plan of chains."""
    return Plan("exp", {stage.key: stage for stages in chains for stage in stages}, ())


@pytest.fixture
def make_chain(fakes: None) -> Callable[..., list[Stage]]:
    """`chain`, for test modules."""
    return chain


@pytest.fixture
def make_plan() -> Callable[..., Plan]:
    """`plan`, for test modules."""
    return plan


def run(store: Store, plan: Plan, **options: Any) -> tuple[Outcome, str]:
    """Execute a plan of fakes on two workers; what it showed comes with the outcome."""
    shown = io.StringIO()
    settings = RunOptions(**{"workers": 2, "gpus": 0, **options})
    progress = ProgressLog(store.root.parent / plan.name / "log.txt", stream=shown)
    return execute(plan, store, settings, progress=progress), shown.getvalue()


@pytest.fixture
def run_plan() -> Callable[..., tuple[Outcome, str]]:
    """`run`, for test modules."""
    return run


def release_when(lease: Lease, store: Store, plan: Plan, text: str) -> None:
    """Give a lease back, in a thread, once the log of the plan's run says something."""
    log = store.root.parent / plan.name / "log.txt"

    def release() -> None:
        while not (log.exists() and text in log.read_text()):
            time.sleep(0.02)
        lease.release()

    threading.Thread(target=release, daemon=True).start()


@pytest.fixture
def released() -> Callable[[Lease, Store, Plan, str], None]:
    """`release_when`, for test modules."""
    return release_when


def count_starts(store: Store) -> Counter[str]:
    """How often each stage was begun, by the store's history."""
    lines = map(json.loads, (store.root / "events.jsonl").read_text().splitlines())
    return Counter(line["key"] for line in lines if line["event"] == "start")


@pytest.fixture
def starts() -> Callable[[Store], Counter[str]]:
    """`count_starts`, for test modules."""
    return count_starts
