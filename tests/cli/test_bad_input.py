"""What a user gets wrong is told in one line, with the exit code of bad input."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distillbench.store.record import Done

Cli = Callable[..., Any]


@pytest.mark.parametrize("command", ["run", "plan", "table"])
def test_a_file_in_the_place_of_the_results_is_refused(cli: Cli, command: str) -> None:
    answer = cli(command, "e.yaml", "--results", "e.yaml/there", fakes=True)
    assert answer.code == 2
    assert "e.yaml: not a folder. Name another with --results DIR" in answer.err
    assert len(answer.err.splitlines()) == 1


def test_an_unwritable_results_folder_is_refused_at_once(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: not mode & os.W_OK)
    answer = cli("run", "e.yaml", "--results", "there", fakes=True)
    assert (answer.code, Path("there").exists()) == (2, False)
    assert "cannot be written" in answer.err


def test_a_folder_is_no_experiment_file(cli: Cli) -> None:
    assert cli("plan", ".").err == "error: .: a folder; name an experiment file (YAML)\n"


def test_only_names_a_field_that_no_row_has(cli: Cli) -> None:
    answer = cli("plan", "e.yaml", "--only", "metod=x", fakes=True)
    assert answer.code == 2
    assert "unknown field 'metod'; rows have: label" in answer.err
    assert "Did you mean 'method'?" in answer.err


def test_an_override_that_is_no_yaml_is_named_once(cli: Cli) -> None:
    answer = cli("plan", "e.yaml", "--set", "base.nfe=[", fakes=True)
    assert answer.err.count("--set") == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "no such file"),
        ("raise RuntimeError('one\\ntwo')", "cannot be imported: RuntimeError: one two"),
        ("x = 1", "holds no method, metric or backbone"),
    ],
)
def test_a_bad_plugin_is_one_line(cli: Cli, tmp_path: Path, text: str | None, told: str) -> None:
    path = tmp_path / "mine.py"
    if text is not None:
        path.write_text(text)
    answer = cli("plan", "e.yaml", "--plugin", str(path))
    assert answer.code == 2
    assert answer.err == f"error: --plugin {path}: {told}\n"


def test_a_set_of_prompts_that_is_not_here_is_a_note_of_the_plan(cli: Cli) -> None:
    answer = cli("plan", "e.yaml", "--set", "base.sample.prompts=elsewhere", fakes=True)
    assert answer.code == 0
    assert "note: prompt set 'elsewhere' is not on this disk; a run needs it" in answer.out


def test_a_student_with_a_lost_file_is_named(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text("{}")
    (tmp_path / "student.safetensors").write_bytes(bytes(8))
    Done.of(tmp_path, attempt=1).write(tmp_path)
    (tmp_path / "student.safetensors").unlink()
    answer = cli("sample", str(tmp_path), "--prompt", "x", "-o", "out")
    assert answer.code == 1
    assert answer.err == f"error: {tmp_path}/student.safetensors: missing\n"
