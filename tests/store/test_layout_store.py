"""The store: what is committed is whole, what is altered is refused, nothing is silently lost."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from distillbench.errors import ArtifactError, StorageError
from distillbench.store.claim import Claim
from distillbench.store.layout import Store
from distillbench.store.record import Failure

KEY = "0123456789abcdef0123"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "store")
    made.prepare()
    return made


def commit(store: Store, key: str = KEY) -> Path:
    tmp = store.begin("train", key)
    (tmp / "part").mkdir()
    (tmp / "weights.bin").write_bytes(bytes(range(100)))
    (tmp / "part" / "log.txt").write_text("hello\n")
    return store.commit(tmp, "train", key, attempt=2)


def test_commit_makes_a_verified_folder_and_leaves_nothing_beside_it(store: Store) -> None:
    store.checkpoints("train", KEY).mkdir()
    store.fail("train", KEY, Failure(error="earlier"))
    folder = commit(store)
    assert store.is_done("train", KEY)
    assert store.verify("train", KEY) == folder
    assert [p.name for p in folder.parent.iterdir()] == [KEY]
    assert list(store.keys("train")) == [KEY]
    done = json.loads((folder / "done.json").read_text())
    assert done["attempt"] == 2
    assert done["files"]["part/log.txt"]["size"] == 6


def test_nothing_counts_before_the_commit(store: Store) -> None:
    (store.begin("train", KEY) / "weights.bin").write_bytes(b"x")
    assert not store.is_done("train", KEY)
    assert store.problem("train", KEY) is None
    assert list(store.keys("train")) == []


@pytest.mark.parametrize("damage", ["truncate", "delete", "marker", "no marker"])
def test_damage_that_shows_in_sizes_is_seen_at_once(store: Store, damage: str) -> None:
    folder = commit(store)
    name = {"marker": "done.json", "no marker": "done.json"}.get(damage, "weights.bin")
    if damage in ("delete", "no marker"):
        (folder / name).unlink()
    else:
        os.truncate(folder / name, 50)
    assert not store.is_done("train", KEY)
    problem = store.problem("train", KEY)
    assert problem is not None
    assert str(folder / name) in problem
    assert "--retry-failed" in problem


def test_an_altered_byte_is_found_on_use_and_remembered(store: Store) -> None:
    folder = commit(store)
    (folder / "weights.bin").write_bytes(bytes(100))
    assert store.is_done("train", KEY)  # the cheap check sees sizes only
    with pytest.raises(ArtifactError, match=r"weights\.bin: altered"):
        store.verify("train", KEY)
    assert not store.is_done("train", KEY)
    assert "weights.bin" in (store.problem("train", KEY) or "")


def test_reset_moves_altered_folders_aside_and_keeps_sound_ones(store: Store) -> None:
    folder = commit(store)
    store.fail("train", KEY, Failure(error="a doubt"))
    assert store.reset("train", KEY) is None
    assert store.is_done("train", KEY)
    for n in (1, 2):
        (folder / "weights.bin").write_bytes(bytes(100))
        aside = store.reset("train", KEY)
        assert aside == folder.with_name(f"{KEY}.bad-{n}")
        assert (aside / "weights.bin").exists()
        assert not folder.exists()
        commit(store)


def test_a_failure_is_reported_until_it_is_reset(store: Store) -> None:
    store.fail("train", KEY, Failure(error="loss is nan", log="x.log", attempt=3))
    assert "loss is nan" in (store.problem("train", KEY) or "")
    found = store.failure("train", KEY)
    assert found is not None
    assert (found.log, found.attempt) == ("x.log", 3)
    store.reset("train", KEY)
    assert store.problem("train", KEY) is None


def test_a_failure_for_an_outer_cause_is_told_and_tried_again(store: Store) -> None:
    assert store.reason("train", KEY) == ""
    store.fail("train", KEY, Failure(error="no weights", lasting=False))
    assert store.problem("train", KEY) is None
    assert store.reason("train", KEY) == "no weights"
    commit(store)
    assert store.reason("train", KEY) == ""


def test_second_commit_of_one_stage_leaves_the_first(store: Store) -> None:
    first = store.begin("train", KEY)
    second = first.with_name(f"{KEY}.tmp-other")
    for folder, text in ((first, "first"), (second, "second")):
        folder.mkdir(exist_ok=True)
        (folder / "x").write_text(text)
    store.commit(first, "train", KEY)
    store.commit(second, "train", KEY)
    assert (store.path("train", KEY) / "x").read_text() == "first"
    assert not second.exists()


def test_sweep_removes_what_nobody_works_on_and_keeps_checkpoints(store: Store) -> None:
    mine, dead = store.begin("train", KEY), store.begin("train", "dead")
    store.checkpoints("train", "dead").mkdir()
    claim = Claim.take(store.claim_path("train", KEY))
    assert claim is not None
    assert store.sweep() == [dead]
    assert mine.exists()
    assert store.checkpoints("train", "dead").exists()
    claim.release()
    assert store.sweep() == [mine]


def test_begin_forgets_earlier_attempts(store: Store) -> None:
    first = store.begin("train", KEY)
    assert store.begin("train", KEY) != first
    assert not first.exists()


def test_a_full_disk_is_one_line_and_leaves_no_half_stage(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp = store.begin("train", KEY)
    (tmp / "x").write_text("x")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="no space left") as caught:
            store.commit(tmp, "train", KEY)
    assert "Free some space" in caught.value.line
    assert not store.is_done("train", KEY)
    assert not store.path("train", KEY).exists()


def test_a_store_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        Store(tmp_path / "file" / "store").prepare()


def test_keep_log_survives_the_attempt(store: Store) -> None:
    (store.begin("train", KEY) / "log.txt").write_text("why\n")
    kept = store.keep_log("train", KEY)
    store.discard("train", KEY)
    assert Path(kept).read_text() == "why\n"
    assert store.keep_log("train", KEY) == ""
