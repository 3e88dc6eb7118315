"""Runs can be told apart and followed: what they are, how far they are, what they lose."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from distillbench.cli import logs
from distillbench.cli.runs import run_rows
from distillbench.store.layout import Store
from distillbench.store.lease import Lease
from distillbench.store.record import Failure


def begun(store: Store, key: str, label: str = "", **params: Any) -> Path:
    """An attempt at a training that has not ended."""
    folder = store.begin("train", key)
    spec = {"method": {"name": "tdm", "params": params}, "backbone": {"name": "gmm"}, "seed": 0,
            "train": {"updates": 9}}  # fmt: skip
    (folder / "spec.json").write_text(json.dumps({"spec": spec, "label": label}))
    (folder / "log.txt").write_text("start\nhello \x1b[2J\n")
    return folder


def line(step: int) -> str:
    return json.dumps({"step": step, "student/loss": 0.5 * step}) + "\n"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logs, "_EVERY", 0.05)
    return Store(tmp_path / "results/store")


def test_a_sweep_is_told_apart_by_what_differs(store: Store) -> None:
    for key, lr in (("aa", 1e-3), ("bb", 1e-4)):
        begun(store, key, "TDM", lr=lr, batch=4)
    begun(store, "cc.odd".partition(".")[0], "TDM", lr=1e-4, batch=4, eta=1)
    rows = run_rows(Path("results"))
    assert [row["differs"] for row in rows] == ["lr=0.001", "lr=0.0001", "lr=0.0001 eta=1"]
    assert {row["label"] for row in rows} == {"TDM"}
    assert all(row["bytes"] > 100 for row in rows)


def test_states_say_where_and_why(store: Store) -> None:
    begun(store, "aa")
    lease = Lease.take(store.lease_path("train", "aa"), run="r", attempt=1)
    assert lease is not None
    lease.beat({"step": 3, "steps": 9})
    begun(store, "bb")
    store.fail("train", "bb", Failure("loss is NaN\nmore"))
    rows = {row["run"]: row for row in run_rows(Path("results"))}
    assert (rows["aa"]["state"], rows["bb"]["state"]) == ("running", "failed")
    assert rows["aa"]["detail"].startswith("process ")
    assert rows["aa"]["detail"].endswith(", 3/9")
    assert "loss is NaN" in rows["bb"]["detail"]
    lease.release()
    assert run_rows(Path("results"))[0]["state"] == "unfinished"


def test_a_stopped_training_is_called_as_its_plan_says(store: Store) -> None:
    """A checkpoint alone is left of it, and no record of what it is."""
    (store.root / "train" / "dd.ckpt").mkdir(parents=True)
    begun(store, "ee", "TDM")
    cells = [{"label": "", "title": "LCM", "method": "lcm", "seed": 1, "train": "dd"},
             {"label": "o", "title": "T", "method": "tdm", "seed": 1, "train": "ee"}]  # fmt: skip
    (store.root.parent / "e").mkdir()
    (store.root.parent / "e/plan.json").write_text(json.dumps({"cells": cells}))
    rows = {row["run"]: row for row in run_rows(Path("results"))}
    told = [rows["dd"][name] for name in ("state", "label", "experiment", "method", "seed")]
    assert told == ["unfinished", "LCM seed 1", "e", "lcm", 1]
    assert rows["ee"]["label"] == "TDM"
    (store.root.parent / "e/plan.json").write_text("[]")
    assert run_rows(Path("results"))[0]["label"] == ""


def test_a_torn_or_odd_record_is_a_row_with_less(store: Store) -> None:
    for key, text in (("aa", '{"spec"'), ("bb", "[]"), ("cc", '{"spec": 3}'), ("dd", "{}")):
        (begun(store, key) / "spec.json").write_text(text)
    rows = run_rows(Path("results"))
    assert [(row["run"], row["method"]) for row in rows] == [
        (k, "") for k in ("aa", "bb", "cc", "dd")
    ]


def test_losses_are_seen_while_it_trains(cli: Any, store: Store) -> None:
    folder = begun(store, "abcd")
    (folder / "train.jsonl").write_text(line(1) + line(2) + '{"step": 3, "stu')
    shown = cli("logs", "ab").out
    assert "train abcd: unfinished" in shown
    assert "update 2  student/loss 1" in shown
    assert "update 3" not in shown
    assert "\x1b" not in shown
    assert [row["step"] for row in cli("logs", "ab", "--json").json["losses"]] == [1, 2]
    assert [row["step"] for row in cli("logs", "ab", "--json", "--lines", "1").json["losses"]] == [
        2
    ]


def test_losses_of_a_stopped_training_are_those_of_its_checkpoint(cli: Any, store: Store) -> None:
    for step in (2, 4):
        folder = store.checkpoints("train", "abcd") / f"step-{step}"
        folder.mkdir(parents=True)
        (folder / "train.jsonl").write_text("".join(map(line, range(1, step + 1))))
    assert [row["step"] for row in cli("logs", "ab", "--json").json["losses"]] == [1, 2, 3, 4]


def test_following_ends_with_the_run(cli: Any, store: Store, monkeypatch: Any) -> None:
    folder = begun(store, "abcd")
    lease = Lease.take(store.lease_path("train", "abcd"), run="r", attempt=1)
    assert lease is not None
    (folder / "train.jsonl").write_text(line(1))

    def train() -> None:
        with (folder / "train.jsonl").open("a") as file:
            file.write(line(2))
        lease.release()

    timer = threading.Timer(0.5, train)
    timer.start()
    shown = cli("logs", "ab", "--follow").out
    timer.join()
    assert shown.count("update 1") == shown.count("update 2") == 1
    assert shown.rstrip().endswith("unfinished")


def test_logs_of_no_run(cli: Any, store: Store) -> None:
    answer = cli("logs", "zz")
    assert answer.code == 2
    assert "no stage with that key" in answer.err


def test_a_training_can_be_named_by_experiment_row_and_seed(cli: Any, store: Store) -> None:
    cells = [
        {"label": label, "title": "T", "method": "tdm", "seed": seed, "train": f"{n}aaa{seed}"}
        for n, label in enumerate(("TDM", "x:seed"))
        for seed in (0, 1)
    ]
    for cell in cells:
        begun(store, str(cell["train"]))
    Path("results/e").mkdir()
    Path("results/e/plan.json").write_text(json.dumps({"cells": cells}))
    assert cli("logs", "e:TDM:seed1", "--json").json["key"] == "0aaa1"
    assert cli("logs", "e:x:seed:seed0", "--json").json["key"] == "1aaa0"
    for name, text in (
        ("e:TDM", "means 2 trainings: 0aaa0 (seed 0), 0aaa1 (seed 1)"),
        ("e:TDM:seed7", "no such row and seed in e; its rows: TDM, x:seed"),
        ("e:nobody", "no such row"),
        ("other:TDM", "no plan in results/other"),
    ):
        answer = cli("logs", name)
        assert answer.code == 2
        assert text in answer.err


def test_a_label_is_meant_before_a_title(cli: Any, store: Store) -> None:
    """Rows of one method have its title in common; a label is of one row, or of a grid."""
    rows = [
        ("TDM", {}),
        ("TDM on tuned", {}),
        ("Swept", {"params.lr": 1}),
        ("Swept", {"params.lr": 2}),
    ]
    cells = [
        {"label": label, "title": "TDM", "method": "tdm", "seed": 0, "varied": varied,
         "train": f"{n}bbb"}
        for n, (label, varied) in enumerate(rows)
    ]  # fmt: skip
    for cell in cells:
        begun(store, str(cell["train"]))
    Path("results/t").mkdir()
    Path("results/t/plan.json").write_text(json.dumps({"cells": cells}))
    assert cli("logs", "t:TDM:seed0", "--json").json["key"] == "0bbb"
    assert cli("logs", "t:Swept[lr=2]", "--json").json["key"] == "3bbb"
    for name, told in (
        ("t:Swept", "2bbb (lr=1, seed 0), 3bbb (lr=2, seed 0)"),
        ("t:tdm", "0bbb (TDM, seed 0), 1bbb (TDM on tuned, seed 0), 2bbb (Swept, lr=1, seed 0)"),
    ):
        assert told in cli("logs", name).err
