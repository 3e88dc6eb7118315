"""What a run tells: every event on the screen and in the log, and a table on a terminal."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from distillbench.plan.stage import Stage
from distillbench.run.progress import LiveProgress, ProgressLog, open_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def play(progress: ProgressLog, stages: list[Stage]) -> None:
    trained, sampled, _ = stages
    progress.begin("exp", {s.key: s for s in stages}, 0, 3.0)
    progress.started(trained, 1)
    event = {"step": 5, "steps": 10, "steps_per_second": 2.5, "losses": {"total": 0.25}}
    progress.moved(trained, event)
    progress.tick()
    progress.finished(trained)
    progress.started(sampled, 2)
    progress.failure(sampled, "went wrong", "/x/log.txt", 1)
    progress.tick()
    progress.close()


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_events_are_shown_and_logged(
    stream: Callable[[], io.StringIO], tmp_path: Path, make_chain: Callable[..., list[Stage]]
) -> None:
    shown = stream()
    progress = open_progress(tmp_path / "exp" / "log.txt", stream=shown)
    assert isinstance(progress, LiveProgress) == shown.isatty()
    play(progress, make_chain("row"))
    log = (tmp_path / "exp" / "log.txt").read_text()
    texts = [
        "start  train  row train",
        "[1/3]",
        "(attempt 2)",
        "FAILED sample row sample: went wrong",
    ]
    for text in [*texts, "log: /x/log.txt", "0 cached, 1 ran, 1 failed, 1 blocked"]:
        assert text in log
        assert text in shown.getvalue()


def test_the_live_table_shows_steps_speed_and_losses(
    tmp_path: Path, make_chain: Callable[..., list[Stage]]
) -> None:
    shown = Terminal()
    play(LiveProgress(tmp_path / "log.txt", stream=shown), make_chain("row"))
    assert "5/10  2.5 steps/s  total 0.25" in shown.getvalue()


def test_time_left_counts_the_part_done_of_running_stages(
    tmp_path: Path, make_chain: Callable[..., list[Stage]]
) -> None:
    stages = make_chain("row")
    progress = ProgressLog(tmp_path / "log.txt", stream=io.StringIO())
    progress.begin("exp", {s.key: s for s in stages}, 0, 3.0)
    assert progress.eta() is None
    progress.started(stages[0], 1)
    progress._work_began -= 10
    progress.moved(stages[0], {"step": 1, "steps": 2})
    assert progress.eta() == pytest.approx(50, rel=0.01)  # 1/6 of the work took 10 seconds
    progress.close()


def test_a_log_that_fills_the_disk_does_not_end_the_run() -> None:
    shown = io.StringIO()
    progress = ProgressLog(Path("/dev/full"), stream=shown)
    progress.say("still here")
    assert "still here" in shown.getvalue()
    assert "No space left" in shown.getvalue()
