"""A few mutated experiments; `benchmarks/fuzz.py` tries as many as one likes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).parent.parent.parent / "benchmarks" / "fuzz.py"


def test_mutated_experiments_are_refused_in_lines_or_obeyed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DISTILLBENCH_DATA", "")
    spec = importlib.util.spec_from_file_location("distillbench_fuzz", PATH)
    assert spec is not None
    assert spec.loader is not None
    fuzz = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "distillbench_fuzz", fuzz)
    spec.loader.exec_module(fuzz)
    files = [path for path in fuzz.shipped() if path.stem in ("smoke", "quickstart", "table7")]
    verdicts = fuzz.fuzz(60, seed=5, files=files)
    assert [v for v in verdicts if v.end == "wrong"] == []
    assert {v.end for v in verdicts} >= {"refused", "accepted"}
