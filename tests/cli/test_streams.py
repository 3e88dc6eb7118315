"""Standard output that is closed or full ends no command and fakes no success."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., Any]
COMMAND = [sys.executable, "-m", "distillbench.cli.main"]


def call(*args: str, **streams: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.run(
        [*COMMAND, *args], env=environment, text=True, stderr=subprocess.PIPE, **streams
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("words", [["list", "methods"], ["--help"], ["plan", "e.yaml"]])
def test_a_full_disk_under_the_output_is_one_line_and_no_success(words: list[str]) -> None:
    fakes = Path(__file__).parent.parent / "config" / "fakes.py"
    words = [*words, "--plugin", str(fakes)] if words[0] == "plan" else words
    with open("/dev/full", "w") as full:
        done = call(*words, stdout=full)
    assert (done.returncode, done.stderr) == (
        1, "error: standard output: No space left on device\n",
    )  # fmt: skip


def test_a_reader_that_leaves_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = call("list", "methods", stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_closed_output_is_no_error() -> None:
    done = call("list", "methods", stdout=subprocess.DEVNULL, preexec_fn=lambda: os.close(1))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("outcome", ["all done", "a stage failed"])
def test_a_run_ends_as_its_stages_do_whoever_listens(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, outcome: str
) -> None:
    from distillbench.run import driver
    from distillbench.run.options import Outcome

    class Broken:
        encoding, closed = "utf-8", False

        def isatty(self) -> bool:
            return False

        def fileno(self) -> int:
            raise OSError

        def write(self, text: str) -> int:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

        flush = write

    found = Outcome(failed={} if outcome == "all done" else {"x": "why"})

    def execute(*args: Any, progress: Any, **options: Any) -> Outcome:
        progress.say("nobody hears this")
        progress.close()
        return found

    monkeypatch.setattr(driver, "execute", execute)
    monkeypatch.setattr(sys, "stdout", Broken())
    assert cli("run", "e.yaml", fakes=True).code == found.exit_code


@pytest.mark.parametrize("words", [["plan", "e.yaml"], ["table", "e.yaml"], ["run", "e.yaml"]])
def test_a_store_that_cannot_be_read_is_one_line(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    Path("results/store/train").mkdir(parents=True)
    real = Path.is_dir

    def denied(self: Path, **options: Any) -> bool:
        if "store" in self.parts:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return real(self, **options)

    monkeypatch.setattr(Path, "is_dir", denied)
    answer = cli(*words, fakes=True)
    assert answer.code == 1
    assert answer.err.count("\n") == 1
    assert "store" in answer.err
    assert "cannot be read or written (permission denied)" in answer.err
    assert "Traceback" not in answer.err


def test_a_file_where_the_store_should_be_is_one_line(cli: Cli) -> None:
    Path("results").mkdir()
    Path("results/store").write_text("")
    for words in (["run", "e.yaml"], ["table", "e.yaml"], ["plan", "e.yaml"], ["list", "runs"]):
        answer = cli(*words, **({"fakes": True} if words[0] != "list" else {}))
        assert answer.err.count("\n") <= 1, (words, answer.err)
        assert "Traceback" not in answer.err
        assert "internal error" not in answer.err
