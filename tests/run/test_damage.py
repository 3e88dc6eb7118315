"""A dozen cases of benchmarks/damage.py: found by name, never printed, resumed byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"


def test_damaged_stages_and_checkpoints_are_found_not_printed_and_redone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import damage

    bench = damage.damage_all(tmp_path, seed=1, cases=8, cli=0)
    assert bench.wrong == []
    assert bench.cases.total() == 16
