"""Checkpoints and results that other code made: never continued, never mixed, redone when asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from distillbench.plan.stage import Stage
from distillbench.run import worker
from distillbench.run.worker import run_stage
from distillbench.store.layout import Store

FUNCTIONS = {kind: f"fakestages:{kind}" for kind in ("train", "sample", "score")}
Chain = Callable[..., list[Stage]]


def run(store: Store, stage: Stage, **options: Any) -> Any:
    return run_stage(stage, store_root=store.root, functions=FUNCTIONS, **options)


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
