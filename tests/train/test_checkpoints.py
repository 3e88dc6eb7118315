"""Checkpoints are held against their digests: a damaged one is passed over, and it is said."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distillbench.cli.sample import checkpoint_folder
from distillbench.errors import ArtifactError, Interrupted
from distillbench.sample.generate import load_student
from distillbench.store.record import Done
from distillbench.store.runs import teacher_runs
from distillbench.testing.method import train, train_spec
from distillbench.train import state

LCM = {"nets": "copy", "lr": 1e-3, "teacher_guidance": [1.0, 1.0]}
FILES = ("tensors.safetensors", "state.json", "train.jsonl", "done.json")
Damage = Callable[[Path], None]


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """A training that was stopped with checkpoints of steps 4 and 5, and the same undisturbed."""
    folder = tmp_path_factory.mktemp("stopped")
    spec = train_spec("lcm", LCM, updates=6)
    with pytest.raises(Interrupted):
        train(spec, folder / "half", stop_after=5, save_every=2)
    train(spec, folder / "straight")
    return spec, folder


def resume(stopped: tuple[dict[str, Any], Path], where: Path, harm: Callable[[Path], None]) -> Any:
    spec, folder = stopped
    shutil.copytree(folder / "half" / "checkpoints", where / "checkpoints")
    harm(where / "checkpoints")
    notes = [event["note"] for event in train(spec, where) if "note" in event]
    students = [f / "out" / "student.safetensors" for f in (where, folder / "straight")]
    assert students[0].read_bytes() == students[1].read_bytes()
    return notes


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
def test_a_damaged_checkpoint_gives_way_to_the_one_before_it(
    stopped: Any, tmp_path: Path, name: str, damage: Damage
) -> None:
    notes = resume(stopped, tmp_path, lambda root: damage(root / "step-00000005" / name))
    assert len(notes) == 1
    assert f"step-00000005/{name}" in notes[0]
    assert "trying the checkpoint before it" in notes[0]


def test_without_a_sound_checkpoint_a_training_starts_anew_and_says_so(
    stopped: Any, tmp_path: Path
) -> None:
    def harm(root: Path) -> None:
        flip(root / "step-00000004" / "tensors.safetensors")
        cut(root / "step-00000005" / "state.json")

    first, second = resume(stopped, tmp_path, harm)
    assert "step-00000005/state.json: truncated or altered" in first
    assert "step-00000004/tensors.safetensors: altered (sha256 " in second
    assert "the training starts anew" in second


def test_a_sound_checkpoint_is_continued_without_a_word(stopped: Any, tmp_path: Path) -> None:
    assert resume(stopped, tmp_path, lambda root: None) == []


def test_what_a_kill_left_among_checkpoints_is_removed(stopped: Any, tmp_path: Path) -> None:
    resume(stopped, tmp_path, lambda root: (root / "step-00000006.tmp-1").mkdir())
    assert not list((tmp_path / "checkpoints").glob("*.tmp-*"))
    assert state.latest(tmp_path / "checkpoints", at_most=6) is not None


def run_folder(store: Path, key: str, teacher: object) -> Path:
    folder = store / key
    folder.mkdir()
    (folder / "recipe.json").write_text(json.dumps({"teacher": teacher}))
    return folder


def test_runs_that_start_from_others_are_followed_to_the_first(tmp_path: Path) -> None:
    c, b, a = (run_folder(tmp_path, n, t) for n, t in (("c", None), ("b", "c"), ("a", "b")))
    assert teacher_runs(a) == [b, c]
    assert teacher_runs(c) == []


@pytest.mark.parametrize("links", [{"a": "a"}, {"a": "b", "b": "a"}, {"a": "b", "b": "b"}])
def test_a_run_that_is_its_own_teacher_is_refused(tmp_path: Path, links: dict[str, str]) -> None:
    for key, teacher in links.items():
        run_folder(tmp_path, key, teacher)
    for use in (teacher_runs, lambda folder: checkpoint_folder(str(folder), tmp_path)):
        with pytest.raises(ArtifactError, match="leads in a circle"):
            use(tmp_path / "a")


@pytest.mark.parametrize("teacher", [7, "../a", ["b"], "missing"])
def test_a_teacher_that_is_no_run_beside_it_is_refused(tmp_path: Path, teacher: object) -> None:
    with pytest.raises(ArtifactError, match=r"recipe\.json"):
        teacher_runs(run_folder(tmp_path, "a", teacher))


def test_an_altered_student_is_not_loaded(stopped: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(stopped[1] / "straight" / "out", folder)
    Done.of(folder).write(folder)
    load_student(folder)
    flip(folder / "student.safetensors")
    with pytest.raises(ArtifactError, match=r"student\.safetensors: altered"):
        load_student(folder)
    (folder / "done.json").unlink()
    (folder / "spec.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"done\.json: missing"):
        load_student(folder)
