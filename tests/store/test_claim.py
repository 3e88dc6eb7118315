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
from distillbench.store.claim import DEAD_AFTER, Claim, Holder, clear

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


def test_a_holder_on_another_machine_lives_by_its_signs_of_life(path: Path) -> None:
    claim = Claim.take(path)
    assert claim is not None
    far = replace(claim.holder, token="far", place="elsewhere pid:[1]", pid=1)
    path.write_text(json.dumps(asdict(far)))
    assert Claim.take(path) is None
    old = time.time() - DEAD_AFTER - 1
    os.utime(path, (old, old))
    second = Claim.take(path)
    assert second is not None
    second.release()
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
