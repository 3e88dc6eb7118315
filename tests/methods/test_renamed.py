"""Former spellings of the shipped methods' parameters name the present ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from distillbench.analysis.check import checked_plan
from distillbench.errors import ConfigError
from distillbench.experiment.load import load_experiment
from distillbench.methods.settings.consistency import LCMConfig

FORMER = [
    ("tdm", "guidance_scale", 2, "teacher_guidance"),
    ("tdm_unify", "guidance_scale", 2, "teacher_guidance"),
    ("dmd2", "guidance_scale", 2, "teacher_guidance"),
    ("dmd2", "regression_steps", 2, "regression_updates"),
    ("lcm", "guidance", "[1, 1]", "teacher_guidance"),
    ("tcd", "guidance", "[1, 1]", "teacher_guidance"),
    ("tscd", "guidance", "[1, 1]", "teacher_guidance"),
    ("tscd", "one_step_guidance", 2, "one_step_teacher_guidance"),
    ("tscd", "stage_steps", "[1, 1, 1, 1]", "phase_updates"),
    ("tdm", "randmid", "true", "random_matching_time"),
    ("tdm_unify", "randmid", "true", "random_matching_time"),
    ("tdm_unify", "surrogate", "false", "loss"),
]


def refused(path: Path, text: str) -> str:
    path.write_text("name: t\nbackbones: {gmm: gmm}\nbase: {backbone: gmm}\n" + text)
    with pytest.raises(ConfigError) as caught:
        checked_plan(load_experiment(path))
    (line,) = caught.value.problems
    return line.removeprefix(f"{path}:")


@pytest.mark.parametrize(("method", "old", "value", "new"), FORMER)
def test_parameters(tmp_path: Path, method: str, old: str, value: Any, new: str) -> None:
    path, start = tmp_path / "e.yaml", f"rows: [{{method: {method}, params: {{"
    line = refused(path, f"{start}{old}: {value}}}}}]\n")
    assert line.startswith(f"4:{len(start) + 1}: rows[0].params.{old}: is called {new!r} now")
    rows = f"rows: [{{method: {method}}}, {{method: teacher}}]\nmetrics: [sw]\n"
    for name in (f"params.{old}", *([old] if old != "guidance_scale" else [])):
        for part in (f"tables: [{{name: a, where: {{{name}: {value}}}}}]\n",
                     f"tables: [{{name: a, columns: [{name}]}}]\n",
                     f"exclude: [{{{name}: {value}}}]\n"):  # fmt: skip
            now = f"params.{new}" if name.startswith("params.") else new
            line = refused(path, rows + part)
            assert line.startswith("6:")
            assert f"{name!r} is called {now!r} now" in line


def test_what_switched_the_surrogate_off_is_said(tmp_path: Path) -> None:
    rows = "rows: [{method: tdm_unify, params: {surrogate: false}}]\n"
    assert refused(tmp_path / "e.yaml", rows).endswith("; `surrogate: false` was `loss: mse`")


def test_a_value(tmp_path: Path) -> None:
    rows = "rows: [{method: tdm, params: {fake_sampling: near}}]\n"
    said = "is called 'near_trajectory' now"
    assert said in refused(tmp_path / "e.yaml", rows)
    table = "rows: [{method: tdm}]\ntables: [{name: a, where: {fake_sampling: near}}]\n"
    assert refused(tmp_path / "e.yaml", table).endswith(f"'fake_sampling': 'near' {said}")


@pytest.mark.parametrize("given", [3, 3.0, (3, 3), [3.0, 3.0]])
def test_one_scale_is_a_range_of_equal_ends(given: Any) -> None:
    assert LCMConfig(teacher_guidance=given).teacher_guidance == (3.0, 3.0)
    assert not LCMConfig(teacher_guidance=given, nets="copy").embeds


@pytest.mark.parametrize("given", [True, "3", 0.5, [3, 2], [1, 2, 3]])
def test_what_is_no_scale_is_refused(tmp_path: Path, given: Any) -> None:
    rows = f"rows: [{{method: lcm, params: {{teacher_guidance: {given!r}}}}}]\n"
    assert ": rows[0].params" in refused(tmp_path / "e.yaml", rows.replace("True", "true"))
