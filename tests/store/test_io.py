"""Files of the store: exact round trips, and errors that name the file."""

from __future__ import annotations

import errno
import json
import math
from enum import StrEnum
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from distillbench.errors import ArtifactError
from distillbench.files import io
from distillbench.student.files import read_tensors


def test_json_lines_round_trip_and_appends(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"a": 1, "b": 0.1}, {"a": 2, "b": 1e-300}]
    io.write_jsonl(path, rows)
    io.append_jsonl(path, {"a": 3})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [*rows, {"a": 3}]
    assert [p.name for p in tmp_path.iterdir()] == ["rows.jsonl"]


def test_indented_json_is_the_librarys() -> None:
    """To the byte: digests of records are of this text."""
    value = {
        "b": [1, -2.5, 1e-300, 1e22, 0.1, True, None, 'a "b" \\ \n \u00e9 \U0001f600'],
        "a": {"x": {}, "y": [], "": (1, (2, ()), {"z": [[[]]]})},
        "long": {str(i): {"n": i, "f": i / 7, "t": [i] * (i % 3)} for i in range(30)},
    }
    assert io.indented(value) == json.dumps(value, indent=1)
    assert io.json_text(value) == json.dumps(value, indent=1, sort_keys=True) + "\n"
    odd = {1: math.nan, 2.5: -math.inf, False: 0, None: 1}
    assert io.indented(odd) == json.dumps(odd, indent=1)
    texts = {"b": StrEnum("S", "x").x, "a": math.nan, "n": {"c": True}}
    assert io.indented(texts, sort_keys=True) == json.dumps(texts, indent=1, sort_keys=True)
    for plain in ("x", 1, 1.0, None, [], {}):
        assert io.indented(plain) == json.dumps(plain, indent=1)
    with pytest.raises(ValueError, match="not JSON compliant"):
        io.indented([math.nan], allow_nan=False)
    with pytest.raises(TypeError):
        io.indented({"a": object()})


def test_truncated_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"a": ')
    with pytest.raises(ArtifactError, match=r"x\.json: truncated"):
        io.read_json(path)
    with pytest.raises(ArtifactError, match="missing"):
        io.read_json(tmp_path / "none.json")


def test_a_cut_student_is_named(tmp_path: Path) -> None:
    path = tmp_path / "student.safetensors"
    want = {"a": torch.randn(3, 4), "b": torch.arange(5, dtype=torch.uint8)}
    save_file(want, path)
    got = read_tensors(tmp_path)
    assert all(torch.equal(got[name], want[name]) for name in want)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ArtifactError, match=r"student\.safetensors: missing or truncated"):
        read_tensors(tmp_path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    io.write_json(path, {"old": 1})
    with pytest.raises(TypeError):
        io.write_json(path, {"new": object()})
    assert io.read_json(path) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/a/b"), "/a/b: no space left"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "quota"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "no space left"),
        (OSError(errno.EROFS, "Read-only file system", "/a/b"), "/a/b: cannot be written"),
    ],
)
def test_disk_errors_are_recognised_however_they_are_wrapped(error: Exception, text: str) -> None:
    found = io.storage_error(error, Path("/a/c"))
    assert found is not None
    assert text in found.line


def test_other_errors_are_not_the_disk() -> None:
    assert io.storage_error(ValueError("bad"), Path("/results")) is None
    assert io.storage_error(OSError(errno.EPERM, "not a file"), Path("/results")) is None
    theirs = PermissionError(errno.EACCES, "Permission denied", "/home/prompts.txt")
    assert io.storage_error(theirs, Path("/results/store/train")) is None
