"""Leases: one live holder per stage, dead ones make way, a lost lease is noticed."""

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
from distillbench.store.lease import ALIVE_EVERY, DEAD_AFTER, Holder, Lease, clear

HOLD = """
import sys, time
from pathlib import Path
from distillbench.store.lease import Lease
assert Lease.take(Path(sys.argv[1]), run="theirs")
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
    assert Lease.take(path) is None
    holder = Lease.holder_of(path)
    assert holder is not None
    assert (holder.pid, holder.run) == (other.pid, "theirs")
    other.kill()
    other.wait()
    other.stdout.close()
    assert Lease.holder_of(path) is None
    lease = Lease.take(path)
    assert lease is not None
    lease.release()


def test_release_frees_the_lease(path: Path) -> None:
    first = Lease.take(path)
    assert first is not None
    assert Lease.take(path) is None
    first.release()
    assert not path.exists()
    second = Lease.take(path)
    assert second is not None
    second.release()
    assert list(path.parent.iterdir()) == []


def test_progress_is_published(path: Path) -> None:
    lease = Lease.take(path)
    assert lease is not None
    lease.beat({"step": 3})
    holder = Holder.read(path)
    assert holder is not None
    assert holder.progress == {"step": 3}
    lease.release()


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
    monkeypatch.setattr("distillbench.store.lease.time.monotonic", made)
    return made


def test_a_holder_on_another_machine_lives_while_its_file_changes(path: Path, clock: Clock) -> None:
    lease = Lease.take(path)
    assert lease is not None
    far = replace(lease.holder, token="far", place="elsewhere pid:[1]", pid=1)
    path.write_text(json.dumps(asdict(far)))
    clock.forward(DEAD_AFTER - 1)
    assert Lease.take(path) is None  # first seen now, whatever its modification time says
    clock.forward(DEAD_AFTER - 1)
    os.utime(path, (4e9, 4e9))  # by a clock that is decades ahead
    assert Lease.take(path) is None
    clock.forward(DEAD_AFTER - 1)
    os.utime(path, (1, 1))  # and one that is far behind
    assert Lease.take(path) is None
    clock.forward(DEAD_AFTER + 1)
    second = Lease.take(path)
    assert second is not None
    second.release()
    lease.release()


def test_whoever_saw_a_holder_die_clears_its_lease_for_others(path: Path, clock: Clock) -> None:
    lease = Lease.take(path)
    assert lease is not None
    path.write_text(json.dumps(asdict(replace(lease.holder, token="far", place="elsewhere"))))
    assert Lease.free(path) is not None
    clock.forward(DEAD_AFTER + 1)
    assert Lease.free(path) is None
    assert not path.exists()
    lease.release()


def test_a_lease_that_names_nobody_is_watched_before_it_is_free(path: Path, clock: Clock) -> None:
    path.write_text("")  # its writer died, or writes right now
    assert Lease.take(path) is None
    clock.forward(ALIVE_EVERY + 1)
    lease = Lease.take(path)
    assert lease is not None
    lease.release()


def test_notes_stay_on_the_lease(path: Path) -> None:
    lease = Lease.take(path)
    assert lease is not None
    lease.beat({"step": 1})
    lease.note("a checkpoint was damaged")
    lease.note("so was the other")
    holder = Holder.read(path)
    assert holder is not None
    assert list(holder.notes) == ["a checkpoint was damaged", "so was the other"]
    assert holder.progress == {"step": 1}
    lease.release()


def test_a_holder_that_lost_its_lease_stops_and_leaves_the_new_one_alone(path: Path) -> None:
    lease = Lease.take(path)
    assert lease is not None
    path.write_text(json.dumps(asdict(replace(lease.holder, token="new"))))
    with pytest.raises(Interrupted, match="taken over"):
        lease.beat({"step": 1})
    lease.release()
    assert path.exists()


def test_a_reused_process_id_is_not_taken_for_the_holder(path: Path) -> None:
    lease = Lease.take(path)
    assert lease is not None
    path.write_text(json.dumps(asdict(replace(lease.holder, born=lease.holder.born - 100))))
    assert Lease.holder_of(path) is None
    lease.release()


def test_clear_spares_a_lease_taken_a_moment_ago(path: Path) -> None:
    lease = Lease.take(path)
    assert lease is not None
    clear(path, replace(lease.holder, token="dead"))
    assert path.exists()
    clear(path, lease.holder)
    assert not path.exists()
    lease.release()
