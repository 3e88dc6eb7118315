"""Losses sent elsewhere: what is sent, and that nothing they do reaches a training."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from distillbench.errors import BadInput
from distillbench.plan.stage import Stage
from distillbench.run import trackers
from distillbench.run.trackers import Trackers, require_trackers, use_trackers


class Fake:
    """A tracker of accelerate."""

    def __init__(self, broken: bool = False) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.broken = broken

    def start(self) -> None:
        self.calls.append(("start", None))

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.calls.append(("config", values))

    def log(self, values: dict[str, Any], step: int) -> None:
        if self.broken:
            raise ConnectionError("no route to it")
        self.calls.append(("log", (step, values)))

    def finish(self) -> None:
        self.calls.append(("finish", None))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    made = Fake()
    monkeypatch.setenv(trackers.TRACKERS_VARIABLE, "")
    monkeypatch.setitem(trackers._MAKERS, "wandb", lambda stage, results: made)
    use_trackers(["wandb"])
    return made


def stage(kind: Any = "train", label: str = "TDM (lr=1e-4)/seed 0") -> Stage:
    runtime = {"experiment": "smoke"}
    return Stage(kind, "ab" * 10, {"a": {"b": 1}}, runtime=runtime, label=label)


def test_losses_are_sent_with_their_step(fake: Fake, tmp_path: Path) -> None:
    with Trackers(stage(), tmp_path) as sent:
        sent.log({"kind": "train", "step": 1, "losses": {"student/loss": 0.5}})
        sent.log({"kind": "train", "step": 2, "losses": {}})
        sent.log({"kind": "train", "note": "hello"})
    assert fake.calls == [
        ("start", None), ("config", {"a.b": 1}), ("log", (1, {"student/loss": 0.5})),
        ("finish", None),
    ]  # fmt: skip


def test_other_stages_and_runs_without_trackers_send_nothing(fake: Fake, tmp_path: Path) -> None:
    with Trackers(stage("score"), tmp_path) as sent:
        sent.log({"step": 1, "losses": {"x": 1.0}})
    use_trackers([])
    with Trackers(stage(), tmp_path) as sent:
        sent.log({"step": 1, "losses": {"x": 1.0}})
    assert fake.calls == []


def test_a_tracker_that_fails_says_so_once(
    fake: Fake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.broken = True
    with Trackers(stage(), tmp_path) as sent:
        for step in (1, 2):
            sent.log({"step": step, "losses": {"x": 1.0}})
    said = capsys.readouterr().out
    assert said == "wandb: ConnectionError: no route to it; not used any more\n"


def test_what_is_not_installed_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BadInput, match="--tensorboard: tensorboard is not installed"):
        require_trackers(["tensorboard"])
    with pytest.raises(BadInput, match="there are tensorboard, wandb"):
        require_trackers(["mlflow"])


def test_wandb_goes_on_in_the_run_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    tracking = pytest.importorskip("accelerate.tracking")
    from accelerate import PartialState

    config = SimpleNamespace(update=lambda *_, **__: None)
    made = SimpleNamespace(
        init=lambda **options: SimpleNamespace(finish=lambda: None, **options), config=config
    )
    monkeypatch.setattr(tracking, "is_wandb_available", lambda: True)
    monkeypatch.setitem(__import__("sys").modules, "wandb", made)
    monkeypatch.setenv(trackers.TRACKERS_VARIABLE, "wandb")
    with Trackers(stage(), Path("results")) as sent:
        run = sent._tracker("wandb").run
    assert (run.project, run.id, run.resume) == ("smoke", "ab" * 10, "allow")
    assert run.name == "TDM-lr=1e-4-seed-0-abababab"
    assert not PartialState._shared_state  # a training of several processes starts afresh


def test_event_files_hold_what_the_log_holds(tmp_path: Path) -> None:
    """A real training, its event files read by TensorBoard itself."""
    pytest.importorskip("tensorboard", reason="tensorboard is not installed: no file was written")
    import json

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    import distillbench

    done = distillbench.run(
        {"name": "seen", "backbones": {"gmm": "gmm"}, "base": {"backbone": "gmm", "nfe": 4,
         "sample": {"n": 32}, "train": {"updates": 3, "batch_size": 4}},
         "rows": [{"method": "lcm", "params": {"teacher_guidance": 1.0}}], "metrics": ["sw"]},
        results=tmp_path, workers=1, trackers=("tensorboard",),
    )  # fmt: skip
    (folder,) = (done.folder / "tensorboard").iterdir()
    events = EventAccumulator(str(folder)).Reload()
    (log,) = (tmp_path / "store/train").glob("*/train.jsonl")
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    seen = [(e.step, pytest.approx(e.value)) for e in events.Scalars("student/loss")]
    assert [(row["step"], row["student/loss"]) for row in rows] == seen
