"""`plugins` of an experiment file: what `--plugin` does, said in the file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from distillbench.analysis.check import checked_plan
from distillbench.api.registry import BACKBONES, METHODS, METRICS, PLUGINS_VARIABLE
from distillbench.errors import ConfigError
from distillbench.experiment.load import load_experiment

FAKES = Path(__file__).parent / "fakes.py"
TEXT = """\
name: own
plugins: [PLUGIN]
backbones: {b: fake-points}
base: {backbone: b, sample: {n: 16}}
rows: [{method: fake-student}]
metrics: [fake-spread]
"""


@pytest.fixture(autouse=True)
def _plugins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(PLUGINS_VARIABLE, "")
    for registry in (METHODS, METRICS, BACKBONES):
        registry.reset()
    yield
    for registry in (METHODS, METRICS, BACKBONES):
        registry.reset()


def test_a_file_beside_the_experiment_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    shutil.copy(FAKES, own / "own_fakes.py")
    (own / "e.yaml").write_text(TEXT.replace("PLUGIN", "own_fakes.py"))
    monkeypatch.chdir(tmp_path)
    plan = checked_plan(load_experiment(Path("own/e.yaml")))
    assert [cell.method for cell in plan.cells] == ["fake-student"]
    assert os.environ[PLUGINS_VARIABLE] == str((own / "own_fakes.py").resolve())


@pytest.mark.parametrize("name", ["none.py", "no_such_module", "math"])
def test_what_holds_no_plugin_is_told_at_its_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "e.yaml").write_text(TEXT.replace("PLUGIN", name))
    with pytest.raises(ConfigError) as caught:
        load_experiment(tmp_path / "e.yaml")
    (first, *_) = caught.value.problems
    assert "e.yaml:2:11: plugins[0]: " in first
    assert name in first
    assert "--plugin" not in first
