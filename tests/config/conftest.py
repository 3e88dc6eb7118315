"""The fake plug-ins, registered for one test, and experiments written as text."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from distillbench.analysis.check import checked_plan
from distillbench.api.registry import BACKBONES, METHODS, METRICS, PLUGINS_VARIABLE, add_plugin
from distillbench.experiment.load import load_experiment
from distillbench.plan.build import selected
from distillbench.plan.stage import Plan

FAKES = Path(__file__).with_name("fakes.py")
HEAD = """\
name: t
backbones: {b: {use: fake-points}}
base: {backbone: b, train: {updates: 10}, sample: {n: 16}}
"""


@pytest.fixture(autouse=True)
def _fakes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(PLUGINS_VARIABLE, "")  # recorded, so that what a test sets is undone
    add_plugin(str(FAKES))
    yield
    os.environ.pop(PLUGINS_VARIABLE, None)
    for registry in (METHODS, METRICS, BACKBONES):
        registry.reset()


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Write `e.yaml` in a folder of its own and go there, so that messages begin with e.yaml."""
    monkeypatch.chdir(tmp_path)

    def _write(text: str) -> Path:
        Path("e.yaml").write_text(text, encoding="utf-8")
        return Path("e.yaml")

    return _write


@pytest.fixture
def plan_of(write: Callable[[str], Path]) -> Callable[..., Plan]:
    """Plan an experiment given as text; HEAD comes before it unless `head` says otherwise."""

    def _plan(text: str, *, head: str = HEAD, only: str = "", **kwargs: Any) -> Plan:
        plan = checked_plan(load_experiment(write(head + text), **kwargs))
        return selected(plan, only)

    return _plan


@pytest.fixture
def errors_of(plan_of: Callable[..., Plan]) -> Callable[..., list[str]]:
    """The error lines of an experiment given as text."""
    from distillbench.errors import BadInput

    def _errors(text: str, **kwargs: Any) -> list[str]:
        with pytest.raises(BadInput) as caught:
            plan_of(text, **kwargs)
        return caught.value.line.splitlines()

    return _errors
