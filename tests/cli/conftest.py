"""Running the command line inside this process, in a folder of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from distillbench.api.registry import BACKBONES, METHODS, METRICS, PLUGINS_VARIABLE
from distillbench.cli.main import run_command

FAKES = Path(__file__).parent.parent / "config" / "fakes.py"
EXPERIMENT = """\
name: t
title: A test
backbones: {b: {use: fake-points}}
base: {backbone: b, train: {updates: 10}, sample: {n: 16}}
rows: [{method: fake-student, nfe: [4, 2]}, {method: fake-teacher}]
metrics: [fake-spread]
profiles:
  tiny: {}
  paper: {base: {train: {updates: 900}}}
"""


@dataclass(frozen=True)
class Answer:
    """What a command printed and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(PLUGINS_VARIABLE, raising=False)
    Path("e.yaml").write_text(EXPERIMENT, encoding="utf-8")
    yield
    os.environ.pop(PLUGINS_VARIABLE, None)
    for registry in (METHODS, METRICS, BACKBONES):
        registry.reset()


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Run `distillbench ARGS` with the fake plug-ins for commands that take `--plugin`."""

    def run(*args: str, fakes: bool = False) -> Answer:
        code = run_command([*args, *(["--plugin", str(FAKES)] if fakes else [])])
        captured = capsys.readouterr()
        return Answer(code, captured.out, captured.err)

    return run
