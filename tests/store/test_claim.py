"""Claims: one live holder per stage, dead ones make way, a lost claim is noticed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from distillbench.errors import Interrupted
from distillbench.store.claim import ALIVE_EVERY, DEAD_AFTER, Claim, Holder, clear

HOLD = """
import sys, time
from pathlib import Path
from distillbench.store.claim import Claim
assert Claim.take(Path(sys.argv[1]), run="theirs")
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "key.claim"


def test_a_live_process_keeps_others_out_until_it_dies(path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, env=environment
    )
    assert other.stdout is not None
    assert other.stdout.readline() == b"held\n"
    assert Claim.take(path) is None
    holder = Claim.holder_of(path)
    assert holder is not None
    assert (holder.pid, holder.run) == (other.pid, "theirs")
    other.kill()
    other.wait()
    other.stdout.close()
    assert Claim.holder_of(path) is None
    claim = Claim.take(path)
    assert claim is not None
    claim.release()


def test_release_frees_the_claim(path: Path) -> None:
    first = Claim.take(path)
    assert first is not None
    assert Claim.take(path) is None
    first.release()
    assert not path.exists()
    second = Claim.take(path)
    assert second is not None
    second.release()
    assert list(path.parent.iterdir()) == []


def test_progress_is_published(path: Path) -> None:
    claim = Claim.take(path)
    assert claim is not None
    claim.beat({"step": 3})
    holder = Holder.read(path)
    assert holder is not None
    assert holder.progress == {"step": 3}
    claim.release()


class Clock:
    """Moves what `time.monotonic` tells."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.real = time.monotonic

    def __call__(self) -> float:
        return self.real() + self.ahead

    def forward(self, seconds: float) -> None:
        self.ahead += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("distillbench.store.claim.time.monotonic", made)
    return made


def test_a_holder_on_another_machine_lives_while_its_file_changes(path: Path, clock: Clock) -> None:
    claim = Claim.take(path)
    assert claim is not None
    far = replace(claim.holder, token="far", place="elsewhere pid:[1]", pid=1)
    path.write_text(json.dumps(asdict(far)))
    clock.forward(DEAD_AFTER - 1)
    assert Claim.take(path) is None  # first seen now, whatever its modification time says
    clock.forward(DEAD_AFTER - 1)
    os.utime(path, (4e9, 4e9))  # by a clock that is decades ahead
    assert Claim.take(path) is None
    clock.forward(DEAD_AFTER - 1)
    os.utime(path, (1, 1))  # and one that is far behind
    assert Claim.take(path) is None
    clock.forward(DEAD_AFTER + 1)
    second = Claim.take(path)
    assert second is not None
    second.release()
    claim.release()


def test_whoever_saw_a_holder_die_clears_its_claim_for_others(path: Path, clock: Clock) -> None:
    claim = Claim.take(path)
    assert claim is not None
    path.write_text(json.dumps(asdict(replace(claim.holder, token="far", place="elsewhere"))))
    assert Claim.free(path) is not None
    clock.forward(DEAD_AFTER + 1)
    assert Claim.free(path) is None
    assert not path.exists()
    claim.release()


def test_a_claim_that_names_nobody_is_watched_before_it_is_free(path: Path, clock: Clock) -> None:
    path.write_text("")  # its writer died, or writes right now
    assert Claim.take(path) is None
    clock.forward(ALIVE_EVERY + 1)
    claim = Claim.take(path)
    assert claim is not None
    claim.release()


def test_notes_stay_on_the_claim(path: Path) -> None:
    claim = Claim.take(path)
    assert claim is not None
    claim.beat({"step": 1})
    claim.note("a checkpoint was damaged")
    claim.note("so was the other")
    holder = Holder.read(path)
    assert holder is not None
    assert list(holder.notes) == ["a checkpoint was damaged", "so was the other"]
    assert holder.progress == {"step": 1}
    claim.release()


def test_a_holder_that_lost_its_claim_stops_and_leaves_the_new_one_alone(path: Path) -> None:
    claim = Claim.take(path)
    assert claim is not None
    path.write_text(json.dumps(asdict(replace(claim.holder, token="new"))))
    with pytest.raises(Interrupted, match="taken over"):
        claim.beat({"step": 1})
    claim.release()
    assert path.exists()


def test_a_reused_process_id_is_not_taken_for_the_holder(path: Path) -> None:
    claim = Claim.take(path)
    assert claim is not None
    path.write_text(json.dumps(asdict(replace(claim.holder, born=claim.holder.born - 100))))
    assert Claim.holder_of(path) is None
    claim.release()


def test_clear_spares_a_claim_taken_a_moment_ago(path: Path) -> None:
    claim = Claim.take(path)
    assert claim is not None
    clear(path, replace(claim.holder, token="dead"))
    assert path.exists()
    clear(path, claim.holder)
    assert not path.exists()
    claim.release()
