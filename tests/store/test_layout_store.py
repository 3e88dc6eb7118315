"""The store: what is committed is whole, what is altered is refused, nothing is silently lost."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from distillbench.errors import ArtifactError, StorageError
from distillbench.files.io import drafting, write_json, write_jsonl
from distillbench.store.layout import Store
from distillbench.store.lease import Holder, Lease, _place, clear
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


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize("name", ["weights.bin", "part/log.txt", "done.json"])
@pytest.mark.parametrize("damage", [truncate, empty, flip, Path.unlink])
def test_any_damage_is_seen_at_once_and_named(
    store: Store, name: str, damage: Callable[[Path], None]
) -> None:
    folder = commit(store)
    assert store.is_done("train", KEY)
    damage(folder / name)
    assert not store.is_done("train", KEY)
    assert list(store.keys("train")) == []
    problem = store.problem("train", KEY)
    assert problem is not None
    assert str(folder / name) in problem
    assert "--retry-failed" in problem
    with pytest.raises(ArtifactError, match=name.rpartition("/")[2]):
        store.verify("train", KEY)


def test_every_changed_byte_of_a_marker_is_seen(store: Store) -> None:
    marker = commit(store) / "done.json"
    sound = marker.read_bytes()
    for position in range(len(sound)):
        changed = bytearray(sound)
        changed[position] = ord("7") if changed[position] != ord("7") else ord("8")
        marker.write_bytes(changed)
        assert not store.is_done("train", KEY), position
    marker.write_bytes(sound)
    assert store.is_done("train", KEY)


def test_a_byte_put_back_makes_the_stage_whole_again(store: Store) -> None:
    path = commit(store) / "weights.bin"
    path.write_bytes(bytes(100))
    assert not store.is_done("train", KEY)
    path.write_bytes(bytes(range(100)))
    assert store.is_done("train", KEY)


def test_markers_from_before_there_were_seals_are_read(store: Store) -> None:
    folder = commit(store)
    marker = json.loads((folder / "done.json").read_text())
    old = {name: marker[name] for name in ("attempt", "files", "finished")}
    (folder / "done.json").write_text(json.dumps(old))
    assert store.is_done("train", KEY)
    flip(folder / "weights.bin")
    assert not store.is_done("train", KEY)


def test_a_stage_made_from_other_inputs_than_are_stored_now_is_named(store: Store) -> None:
    commit(store)
    tmp = store.begin("sample", KEY)
    (tmp / "x").write_text("x")
    made_from = {f"train/{KEY}": store.content("train", KEY)}
    store.commit(tmp, "sample", KEY, inputs=made_from)
    assert store.is_done("sample", KEY)
    os.rename(store.path("train", KEY), store.root / "train" / "aside")
    assert store.is_done("sample", KEY)  # nothing is known against it
    tmp = store.begin("train", KEY)
    (tmp / "weights.bin").write_bytes(bytes(100))
    store.commit(tmp, "train", KEY)
    assert f"made from another train/{KEY}" in (store.problem("sample", KEY) or "")


def test_a_store_that_cannot_be_read_is_one_line(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = commit(store)

    def denied(path: object, *rest: object, **more: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", denied)
        with pytest.raises(StorageError, match="cannot be read or written"):
            store.problem("train", KEY)
    assert store.verify("train", KEY) == folder


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
    lease = Lease.take(store.lease_path("train", KEY))
    assert lease is not None
    assert store.sweep() == [dead]
    assert mine.exists()
    assert store.checkpoints("train", "dead").exists()
    lease.release()
    assert store.sweep() == [mine]


def test_sweep_removes_what_a_kill_left_of_claims_records_and_checkpoints(store: Store) -> None:
    folder = commit(store)
    beside = folder.parent
    store.checkpoints("train", KEY).mkdir()
    store.fail("train", KEY, Failure(error="before it was committed"))
    names = (f".{KEY}.claim.0a1b", f".{KEY}.failed.json.999999999-0a", f"{KEY}.claim")
    dead = Holder("0a1b", _place(), 999999999, 1.0)
    for name in names:
        (beside / name).write_text(json.dumps(asdict(dead)))
    (store.root / ".stop-0a1b0a1b").touch()
    store.fail("train", "other", Failure(error="to be told"))
    store.sweep()
    assert sorted(p.name for p in beside.iterdir()) == [KEY, "other.failed.json"]
    assert not (store.root / ".stop-0a1b0a1b").exists()
    assert store.is_done("train", KEY)


def test_the_output_of_a_dead_process_goes_with_its_lease(store: Store) -> None:
    """By its name alone: a folder of very many stages is not searched for every new one."""
    path = store.lease_path("train", KEY)
    lease = Lease.take(path)
    assert lease is not None
    dead = replace(lease.holder, born=lease.holder.born - 100)
    left = store.begin("train", KEY, token=dead.token)
    (left / "log.txt").write_text("half")
    lease._over.set()  # its thread would touch the file
    path.write_text(json.dumps(asdict(dead)))
    taken = Lease.take(path)
    assert taken is not None
    assert not left.exists()
    mine = store.begin("train", KEY, token=taken.holder.token)
    clear(path, dead)  # by a process that looked at the lease before us
    assert mine.exists()
    assert taken.held
    taken.release()


def test_a_folder_that_is_committed_is_synced_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    tmp = store.begin("train", KEY)
    with drafting(tmp):
        write_json(tmp / "spec.json", {})
        write_jsonl(tmp / "scores.jsonl", [{}])
        assert not synced
    store.commit(tmp, "train", KEY)
    assert len(synced) == 5  # two files, the marker, the folder, and the one above it
    write_json(store.path("train", KEY) / "spec.json", {})
    assert len(synced) == 6


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
