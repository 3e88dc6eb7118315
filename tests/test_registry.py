"""Discovery, laziness and the errors of plug-ins."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from distillbench.api import registry
from distillbench.api.registry import BACKBONES, METHODS, METRICS, PLUGINS_VARIABLE, add_plugin
from distillbench.errors import ConfigError, PluginError

ROOT = Path(__file__).resolve().parent.parent
METRIC = """\
from pydantic import BaseModel, ConfigDict, Field
from distillbench.api.metric import Metric, MetricInfo

class Thing(Metric):
    class Config(BaseModel):
        model_config = ConfigDict(extra="forbid")
        size: int = Field(3, gt=0)
        mode: str = "a"

    info = MetricInfo("Thing", higher_is_better=True)

    def score(self, samples, reference=None):
        raise NotImplementedError
"""


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(PLUGINS_VARIABLE, raising=False)
    yield
    os.environ.pop(PLUGINS_VARIABLE, None)
    for found in (METHODS, METRICS, BACKBONES):
        found.reset()


def plug(tmp_path: Path, text: str, name: str = "thing_plugin") -> Path:
    path = tmp_path / f"{name}.py"
    path.write_text(text, encoding="utf-8")
    add_plugin(str(path))
    return path


def entry_points(monkeypatch: pytest.MonkeyPatch, *points: EntryPoint) -> None:
    def find(group: str) -> list[EntryPoint]:
        return [point for point in points if point.group == group]

    monkeypatch.setattr(registry.importlib.metadata, "entry_points", find)
    METRICS.reset()


def test_builtin_folders_are_scanned_and_helpers_left_out() -> None:
    assert {"teacher", "lcm", "tdm"} <= set(METHODS.names())
    assert {"gmm", "tiny-sd"} <= set(BACKBONES.names())
    found = [*METHODS.names(), *METRICS.names(), *BACKBONES.names()]
    assert not [name for name in found if name.startswith("_") or name in ("base", "__init__")]
    assert METHODS.origin("tdm") == "methods/tdm.py"


def test_a_class_is_told_its_name_and_keeps_being_the_same() -> None:
    cls = METHODS.get("tdm")
    assert cls.name == "tdm"
    assert METHODS.get("tdm") is cls


def test_names_import_no_plugin() -> None:
    code = (
        "import sys; from distillbench.api.registry import METHODS, METRICS, BACKBONES\n"
        "for r in (METHODS, METRICS, BACKBONES): assert r.names()\n"
        "ours = [m for m in sys.modules if m.startswith(('distillbench.methods.',"
        " 'distillbench.metrics.', 'distillbench.backbones.'))]\n"
        "assert not ours, ours\n"
        "assert 'torch' not in sys.modules"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)


def test_unknown_names_get_a_guess() -> None:
    with pytest.raises(PluginError) as caught:
        METHODS.get("tdmm")
    assert str(caught.value).startswith("unknown method 'tdmm'; known methods: ")
    assert str(caught.value).endswith(" Did you mean 'tdm'?")


def test_a_file_is_a_plugin_named_after_itself(tmp_path: Path) -> None:
    path = plug(tmp_path, METRIC)
    assert "thing_plugin" in METRICS.names()
    assert "thing_plugin" not in METHODS.names()
    assert METRICS.origin("thing_plugin") == f"--plugin {path}"
    assert registry.build_metric("thing_plugin", {"size": 5}).config.size == 5


def test_a_plugin_file_takes_no_other_module_s_name(tmp_path: Path) -> None:
    import json

    plug(tmp_path, METRIC, "json")
    assert sys.modules["json"] is json
    assert METRICS.get("json").info.label == "Thing"


def test_workers_inherit_plugins_through_the_environment(tmp_path: Path) -> None:
    path = plug(tmp_path, METRIC)
    plug(tmp_path, METRIC, "other_plugin")
    assert os.environ[PLUGINS_VARIABLE].split(os.pathsep)[0] == str(path)
    code = "from distillbench.api.registry import METRICS; METRICS.get('thing_plugin')"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)


def test_a_dotted_module_is_a_plugin_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dotted_plugin.py").write_text(METRIC)
    monkeypatch.syspath_prepend(tmp_path)
    add_plugin("dotted_plugin")
    assert METRICS.get("dotted_plugin").info.label == "Thing"


def test_a_name_in_the_class_body_wins(tmp_path: Path) -> None:
    plug(tmp_path, METRIC.replace("    info", '    name = "my-thing"\n    info'))
    assert METRICS.get("my-thing").name == "my-thing"


def test_two_plugins_of_one_name_name_both_origins(tmp_path: Path) -> None:
    path = plug(tmp_path, METRIC.replace("    info", '    name = "clip"\n    info'))
    with pytest.raises(PluginError) as caught:
        METRICS.get("clip")
    assert str(caught.value) == (
        f"metric 'clip' is defined twice: by metrics/clip.py and --plugin {path}; rename one"
    )
    assert METRICS.get("aes").name == "aes"


def test_entry_points_are_found_and_loaded_late(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("outside", "thing_outside:Thing", "distillbench.metrics")
    entry_points(monkeypatch, point, point)
    assert "outside" in METRICS.names()
    with pytest.raises(PluginError) as caught:
        METRICS.get("outside")
    assert str(caught.value) == (
        "an installed package (entry point thing_outside:Thing): cannot be imported: "
        "ModuleNotFoundError: No module named 'thing_outside'"
    )


def test_an_entry_point_gives_its_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pointed.py").write_text(METRIC)
    monkeypatch.syspath_prepend(tmp_path)
    entry_points(monkeypatch, EntryPoint("pt", "pointed:Thing", "distillbench.metrics"))
    assert METRICS.get("pt").name == "pt"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (METRIC.replace("(Metric)", "(object)"), "is not there; the file must hold one subclass "
                                                 "of Metric"),
        (METRIC.replace("def score", "def scoer"), "leaves score undefined"),
        (METRIC.replace("class Config(BaseModel)", "class Config").replace("Field(3, gt=0)", "3"),
         "has no Config (a pydantic model of its parameters)"),
    ],
)  # fmt: skip
def test_files_that_do_not_hold_what_they_should(
    text: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wrong.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wrong", raising=False)
    entry_points(monkeypatch, EntryPoint("w", "wrong:Thing", "distillbench.metrics"))
    with pytest.raises(PluginError) as caught:
        METRICS.get("w")
    assert str(caught.value).endswith(f"metric 'w' {what}")


@pytest.mark.parametrize(
    ("text", "what"),
    [("import nothing_of_this_name\n", "ModuleNotFoundError: No module named"),
     ("def f(:\n", "SyntaxError: invalid syntax")],
)  # fmt: skip
def test_a_broken_plugin_file_is_refused_at_once(text: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=what):
        plug(tmp_path, text)
    assert PLUGINS_VARIABLE not in os.environ


@pytest.mark.parametrize(
    ("params", "lines"),
    [
        ({"sise": 1}, ["metric thing_plugin: sise: unknown key. Thing has: size, mode. Did you "
                       "mean "
                       "'size'?"]),
        ({"size": 0, "mode": 1}, [
            "metric thing_plugin: size: input should be greater than 0, got 0.",
            "metric thing_plugin: mode: input should be a valid string, got 1.",
        ]),
    ],
)  # fmt: skip
def test_parameters_are_checked_line_by_line(
    params: dict[str, Any], lines: list[str], tmp_path: Path
) -> None:
    plug(tmp_path, METRIC)
    with pytest.raises(ConfigError) as caught:
        registry.build_metric("thing_plugin", params)
    assert caught.value.problems == lines


def test_the_real_plugins_build() -> None:
    backbone = registry.build_backbone("gmm", {})
    method = registry.build_method("tdm", {"steps": 4}, backbone)
    assert method.backbone is backbone
    assert method.sampler(4).nfe == 4
    assert registry.build_metric("sw", {}).name == "sw"
