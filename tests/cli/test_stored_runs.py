"""Commands about what is stored: names of runs, two runs beside each other, what nobody uses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import distillbench
from distillbench.store.layout import Store
from distillbench.store.lease import Lease
from distillbench.store.record import Failure

EXPERIMENT = {
    "name": "small",
    "backbones": {"gmm": {"use": "gmm"}},
    "base": {"backbone": "gmm", "train": {"batch_size": 8}, "sample": {"n": 64}},
    "rows": [
        {"label": "DDIM", "method": "teacher", "params": {"guidance_scale": 1.0}, "nfe": [4, 2]},
        {"label": "LCM", "method": "lcm", "nfe": [4, 2], "train": {"updates": 2},
         "params": {"teacher_guidance": 1.0, "nets": "copy"}},
    ],
    "seeds": [0, 1],
    "metrics": ["sw"],
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a small experiment."""
    folder = tmp_path_factory.mktemp("made") / "results"
    distillbench.run(EXPERIMENT, results=folder, workers=1)
    return folder


@pytest.fixture
def results(made: Path, tmp_path: Path) -> Path:
    """A copy of them in the folder where commands look."""
    return shutil.copytree(made, tmp_path / "results")


def cells(results: Path, **wanted: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((results / "small/plan.json").read_text())["cells"]
    return [cell for cell in found if all(cell[k] == v for k, v in wanted.items())]


def test_samples_are_named_by_row_conditions_and_seed(cli: Any, results: Path) -> None:
    (cell,) = cells(results, label="LCM", nfe=2, seed=1)
    asked = cli("samples", "small:LCM[nfe=2]:seed1", "-o", "out")
    assert f"{cell['sample']}: its samples are points" in asked.err
    asked = cli("samples", "small:LCM:seed1", "-o", "out")
    assert asked.code == 2
    assert "means 2 sample stages" in asked.err
    assert "nfe 4, seed 1" in asked.err
    asked = cli("samples", cell["train"][:9], "-o", "out")
    assert f"{cell['sample'][:8]} (LCM nfe 2)" in asked.err
    assert cli("show", "small:LCM[nfe=4]:seed1", "--json").json["key"] == cell["train"]
    assert "no such row" in cli("show", "small:LCM[nfe=3]").err


def test_two_trainings_beside_each_other(cli: Any, results: Path) -> None:
    told = cli("diff", "small:LCM:seed0", "small:LCM:seed1", "--json").json
    assert told["spec"] == {"seed": [0, 1]}
    assert {(s["nfe"], s["metric"], s["problem"]) for s in told["scores"]} == {
        (4, "sw", ""), (2, "sw", ""),
    }  # fmt: skip
    assert "other noise" in told["notes"][0]
    assert not any("otherwise" in note for note in told["notes"])
    shown = cli("diff", "small:LCM:seed0", "small:DDIM").out
    assert "note: at nfe 4 their samples were made otherwise: sampler.boundary True" in shown
    assert "sampler.kind renoise against ode" in shown
    assert "method.name" in shown
    assert "difference" in shown
    assert cli("diff", "small:LCM:seed0", "small:LCM:seed0").out.startswith("the same settings")


def test_scores_of_other_ways_of_measuring_have_no_difference(cli: Any, results: Path) -> None:
    stages = [cell["scores"]["sw"] for cell in cells(results, nfe=4, seed=0)]
    path = results / "store/score" / stages[0] / "protocol.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "n": 7}))
    store = Store(results / "store")
    moved = store.begin("score", "f" * 20)
    shutil.copytree(path.parent, moved, dirs_exist_ok=True)
    store.commit(moved, "score", "f" * 20)
    told = cli("diff", "f" * 20, stages[1], "--json").json
    assert [s["problem"] for s in told["scores"]] == ["measured in different ways: n"]


def test_stages_of_two_kinds_and_damaged_ones_are_refused(cli: Any, results: Path) -> None:
    cell = cells(results, label="LCM")[0]
    asked = cli("diff", cell["train"], cell["sample"])
    assert asked.code == 2
    assert "name two of one kind" in asked.err
    (results / "store/train" / cell["train"] / "spec.json").write_text("{}")
    asked = cli("diff", cell["sample"], cells(results, label="LCM", seed=1)[0]["sample"])
    assert asked.code == 1
    assert "Traceback" not in asked.err


def keys(results: Path) -> set[str]:
    return {p.name for p in (results / "store").glob("*/*") if "." not in p.name}


def test_nothing_in_use_is_removed(cli: Any, results: Path) -> None:
    """What a plan names stays, and so does what that was made from though no plan names it."""
    before = keys(results)
    assert cli("gc", "--remove", "--json").json["stages"] == []
    plan = json.loads((results / "small/plan.json").read_text())
    kept = [s for s in plan["stages"] if s["kind"] == "score"]
    (results / "small/plan.json").write_text(json.dumps({"stages": [{"key": kept[0]["key"]}]}))
    listed = cli("gc", "--json").json
    assert keys(results) == before
    assert len(listed["stages"]) == len(before) - 3
    removed = cli("gc", "--remove", "--json").json
    assert [s["key"] for s in removed["stages"]] == [s["key"] for s in listed["stages"]]
    left = keys(results)
    assert kept[0]["key"] in left
    assert len(left) == 3
    assert not [p for p in (results / "store").glob("*/*") if p.name not in left]
    assert cli("gc").out.startswith("nothing")


def test_all_that_lies_beside_an_unused_stage_goes(cli: Any, results: Path) -> None:
    store = Store(results / "store")
    store.begin("train", "a" * 20)
    (store.checkpoints("train", "a" * 20) / "step-2").mkdir(parents=True)
    (store.path("train", "c" * 20)).mkdir()
    record = results / "store/train" / ("c" * 20) / "spec.json"
    record.write_text(json.dumps({"spec": {}, "label": "a given up row"}))
    store.fail("train", "b" * 20, Failure("no"))
    assert {row["key"][0] for row in cli("gc", "--json").json["stages"]} == {"a", "b", "c"}
    removed = cli("gc", "--remove").out
    assert "3 stages" in removed
    assert "a given up row" in removed
    assert not [p for p in (results / "store/train").iterdir() if p.name.startswith(("a" * 9, "."))]


def test_named_files_keep_their_stages(cli: Any, results: Path, tmp_path: Path) -> None:
    (results / "small/plan.json").unlink()
    asked = cli("gc")
    assert asked.code == 2
    assert "no experiment's plan.json" in asked.err
    (tmp_path / "small.json.yaml").write_text(json.dumps(EXPERIMENT))
    assert cli("gc", "small.json.yaml", "--json").json["stages"] == []


def test_nothing_is_removed_while_a_stage_runs(cli: Any, results: Path) -> None:
    store = Store(results / "store")
    store.begin("train", "a" * 20)
    store.begin("train", "b" * 20)
    lease = Lease.take(store.lease_path("train", "a" * 20), run="r", attempt=1)
    assert lease is not None
    assert [row["key"][0] for row in cli("gc", "--json").json["stages"]] == ["b"]
    asked = cli("gc", "--remove")
    assert asked.code == 2
    assert "nothing was removed" in asked.err
    lease.release()
    assert "2 stages" in cli("gc", "--remove").out


def test_a_plan_that_cannot_be_read_stops_it(cli: Any, results: Path) -> None:
    (results / "other").mkdir()
    (results / "other/plan.json").write_text('{"stages": [')
    asked = cli("gc", "--remove")
    assert asked.code == 2
    assert "other/plan.json: cannot be read" in asked.err


def test_a_run_says_what_it_uses_before_it_starts(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that its rows have names, and nothing of it is unused, from the first stage on."""
    seen = []

    def look(*args: Any, **options: Any) -> Any:
        seen.append(Path("results/t/plan.json").is_file())
        raise KeyboardInterrupt

    monkeypatch.setattr("distillbench.run.driver.execute", look)
    assert cli("run", "e.yaml", fakes=True).code == 130
    assert seen == [True]
