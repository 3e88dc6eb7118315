"""Times of updates: measured once a kind, kept with their device, told as hours by a plan."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distillbench.plan.stage import Plan, Stage
from distillbench.run import calibrate as timing
from distillbench.run.calibrate import Pace

Cli = Callable[..., Any]
FILE = Path("results/calibration.json")
TEXT = """\
name: t
backbones: {b: {use: fake-points}}
base: {backbone: b, train: {updates: 7200}, sample: {n: 16}}
rows:
  - {method: fake-student, label: A, nfe: [4, 2]}
  - {method: fake-student, label: B, params: {eta: 0.1}, train: {updates: 3600}, nfe: 4}
  - {method: fake-teacher}
seeds: [0, 1]
"""


def told_by(cli: Cli, *words: str) -> Any:
    return cli(*words, fakes=True)


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Labels of the stages that were measured; each takes two seconds an update or sample."""
    labels: list[str] = []

    def measured(plan: Plan, stage: Stage, device: str, updates: int) -> Pace:
        labels.append(stage.label)
        return Pace(label=stage.label, seconds=2.0, updates=updates, peak_memory_bytes=1)

    monkeypatch.setattr(timing, "_measured", measured)
    monkeypatch.setattr(timing, "device_name", lambda gpu: "" if gpu else "This processor")
    Path("e.yaml").write_text(TEXT)
    return labels


def test_each_kind_is_timed_once_and_told_as_hours(cli: Cli, timed: list[str]) -> None:
    assert "time:" not in told_by(cli, "plan", "e.yaml").out
    first = told_by(cli, "calibrate", "e.yaml", "--only", "label=A")
    assert first.code == 0
    of_a = ["A b seed 0", "A b nfe 4 seed 0", "A b nfe 2 seed 0"]
    assert timed == of_a
    assert "timed  A b seed 0: 2 s an update of 10" in first.out
    assert "timed  A b nfe 4 seed 0: 2 s a sample of 10" in first.out
    told = told_by(cli, "plan", "e.yaml").out
    assert (
        "time: about 8 device-hours of training, 128 s of sampling on one This processor;" in told
    )
    assert "; 2 of 4 trainings, 4 of 8 samplings are calibrated" in told
    again = told_by(cli, "calibrate", "e.yaml")
    assert timed[3] == "B b seed 0"
    assert (timed[:3], len(timed), len(set(timed))) == (of_a, 6, 6)
    assert "known  A b seed 0: 2 s an update" in again.out
    told = told_by(cli, "plan", "e.yaml", "--json").json["time"].strip()
    assert told == (
        "time: about 12 device-hours of training, 256 s of sampling on one This processor"
    )
    other = told_by(cli, "plan", "e.yaml", "--set", "base.train.batch_size=3").out
    assert "0 of 4 trainings are calibrated" in other


def test_another_device_is_not_believed(cli: Cli, timed: list[str]) -> None:
    assert told_by(cli, "calibrate", "e.yaml").code == 0
    kept = json.loads(FILE.read_text())
    FILE.write_text(json.dumps({**kept, "device": "A fine card"}))
    shown = told_by(cli, "plan", "e.yaml")
    assert shown.code == 0
    line = "time: results/calibration.json is of A fine card, not of this machine: not used;"
    assert line in shown.out
    named = told_by(cli, "plan", "e.yaml", "--calibration", str(FILE))
    assert "12 device-hours of training, 256 s of sampling on one A fine card (results" in named.out
    anew = told_by(cli, "calibrate", "e.yaml")
    assert "of A fine card or of other packages; begun anew" in anew.out
    assert (len(timed), timed[:6]) == (12, timed[6:])


@pytest.mark.parametrize(
    ("change", "told"),
    [("{", "no valid JSON"), ("[]", "no calibration (all of it: "),
     ('{"device": "x", "versions": {}, "paces": {"a": {"label": "l", "seconds": -1,'
      ' "updates": 3, "peak_memory_bytes": 1}}}', "no calibration (paces.a.seconds: ")],
)  # fmt: skip
def test_a_file_that_is_none_is_one_line(
    cli: Cli, timed: list[str], change: str, told: str
) -> None:
    FILE.parent.mkdir()
    FILE.write_text(change)
    shown = told_by(cli, "plan", "e.yaml")
    assert shown.code == 0
    assert told in shown.out
    for command in (["plan", "--calibration", str(FILE)], ["calibrate"]):
        refused = told_by(cli, *command, "e.yaml")
        assert refused.code == 2
        assert len(refused.err.splitlines()) == 1
        assert told in refused.err
    assert FILE.read_text() == change
    gone = told_by(cli, "plan", "e.yaml", "--calibration", "nowhere.json")
    assert (gone.code, gone.err.count("\n")) == (2, 1)


def test_what_cannot_be_timed_is_one_line(cli: Cli) -> None:
    """In a process of its own, which says why."""
    Path("e.yaml").write_text(TEXT)
    refused = told_by(cli, "calibrate", "e.yaml", "--gpus", "0")
    assert refused.code == 2
    assert refused.err.startswith("error: A b seed 0: cannot be timed: ")
    assert len(refused.err.splitlines()) == 1


def test_scores_are_told_beside(cli: Cli, timed: list[str]) -> None:
    """Each metric once a backbone, and what another tool sampled not at all."""
    words = ("--set", "metrics=[fake-spread]")
    assert told_by(cli, "calibrate", "e.yaml", *words).code == 0
    assert [label for label in timed if label.startswith("fake-spread of ")] == timed[6:]
    assert len(timed) == 7
    told = told_by(cli, "plan", "e.yaml", *words).out
    assert "256 s of sampling, 256 s of scoring on one This processor" in told
