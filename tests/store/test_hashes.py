"""Remembered hashes: never stale, shared between processes, and only ever a matter of time."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from distillbench.files import hashes
from distillbench.files.hashes import file_sha256, folder_book


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DISTILLBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hashes, "SETTLED_SECONDS", -1.0)  # files of a test are all brand-new
    return tmp_path / "cache" / "hashes"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old bytes")
    return path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were really read."""
    found: list[str] = []
    read = hashes.Book.read

    def counted(book: hashes.Book, path: Path) -> str:
        found.append(Path(path).name)
        return read(book, path)

    monkeypatch.setattr(hashes.Book, "read", counted)
    return found


def digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def again() -> None:
    """Forget what this process knows, as a new one would."""
    hashes._book.cache_clear()


def same_time(path: Path, before: os.stat_result) -> None:
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def in_place(path: Path) -> None:
    before = path.stat()
    path.write_bytes(b"new bytes")
    same_time(path, before)


def replaced(path: Path) -> None:
    before, other = path.stat(), path.with_name("b.bin")
    other.write_bytes(b"new bytes")
    same_time(other, before)
    other.replace(path)


def linked_elsewhere(path: Path) -> None:
    before, other = path.stat(), path.with_name("b.bin")
    other.write_bytes(b"new bytes")
    same_time(other, before)
    path.unlink()
    path.symlink_to(other)


@pytest.mark.parametrize("change", [in_place, replaced, linked_elsewhere])
def test_other_bytes_of_the_same_size_and_mtime_are_seen(
    file: Path, change: Callable[[Path], None]
) -> None:
    assert file_sha256(file) == digest(b"old bytes")
    time.sleep(0.02)  # a tick of the file system's clock
    change(file)
    assert file_sha256(file) == digest(b"new bytes")
    again()
    assert file_sha256(file) == digest(b"new bytes")


def test_an_unchanged_file_is_read_once_even_when_it_was_moved(
    file: Path, reads: list[str]
) -> None:
    for _ in range(3):
        again()
        assert file_sha256(file) == digest(b"old bytes")
    (file.parent / "there").mkdir()
    folder = file.parent / "there"
    file.rename(folder / "c.bin")
    folder.rename(file.parent / "elsewhere")
    file_sha256(file.parent / "elsewhere" / "c.bin")
    assert reads[0] == "a.bin"
    assert len(reads) <= 2  # some file systems count a rename as a change


def test_a_file_that_has_just_changed_is_not_remembered(
    file: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashes, "SETTLED_SECONDS", 60.0)
    assert file_sha256(file) == file_sha256(file)
    assert len(reads) == 2


@pytest.mark.parametrize(
    "harm",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("a", "b"),
        lambda text: "\0\xff nonsense\n" + text[5:],
        lambda text: "",
    ],
)
def test_torn_or_altered_lines_are_passed_over(
    file: Path, own_cache: Path, harm: Callable[[str], str]
) -> None:
    file_sha256(file)
    book = own_cache / "weights"
    book.write_text(harm(book.read_text()))
    again()
    assert file_sha256(file) == digest(b"old bytes")


def test_without_a_writable_cache_it_only_reads_more(
    file: Path, own_cache: Path, reads: list[str]
) -> None:
    own_cache.parent.write_text("a file where the folder should be")
    assert file_sha256(file) == digest(b"old bytes")
    again()
    assert file_sha256(file) == digest(b"old bytes")
    assert len(reads) == 2


def test_books_are_apart_and_of_a_folder_however_it_is_spelled(
    file: Path, own_cache: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    assert folder_book("images", tmp_path) == folder_book("images", tmp_path / "link")
    assert folder_book("images", tmp_path) != folder_book("store", tmp_path)
    file_sha256(file, book="one")
    assert [p.name for p in own_cache.iterdir()] == ["one"]


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path, reads: list[str]) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(60):
        (folder / f"{i}.bin").write_bytes(b"%d" % i)
    code = (
        "import sys; from pathlib import Path; from distillbench.files import hashes\n"
        "hashes.SETTLED_SECONDS = -1\n"
        "for p in sorted(Path(sys.argv[1]).iterdir()): hashes.file_sha256(p)"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(folder)]) for _ in range(3)]
    assert [process.wait() for process in running] == [0, 0, 0]
    again()
    for i in range(60):
        assert file_sha256(folder / f"{i}.bin") == digest(b"%d" % i)
    assert reads == []


def test_a_missing_file_is_the_callers_to_explain(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        file_sha256(tmp_path / "none")
