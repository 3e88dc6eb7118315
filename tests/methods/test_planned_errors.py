"""What a method cannot do is one line when the experiment is planned: where, what, what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from distillbench.analysis.check import checked_plan
from distillbench.errors import BadInput
from distillbench.experiment.load import load_experiment
from distillbench.plan.requirements import missing
from distillbench.store.layout import Store

HEAD = """\
name: t
backbones: {{gmm: {{use: {backbone}}}}}
base: {{backbone: gmm, train: {{updates: 10}}, sample: {{n: 16}}}}
rows: [{{method: {method}, nfe: {nfe}, params: {{{params}}}}}]
metrics: [sw]
tables: [{{name: t, columns: [label, sw]}}]
"""
WRONG = [
    ("sid", "", 3, "gmm", "were not trained"),
    ("sid", "alpha: -1", 4, "gmm", "alpha"),
    ("sid", "steps: 4, input_time: 625", 1, "gmm", "input_time is for one-step students"),
    ("decoupled_dmd", "", 8, "gmm", "were not trained"),
    ("decoupled_dmd", "guidance_times: above", 4, "gmm", "guidance_times.*all.*below"),
    ("flow_map", "derivative: jvp", 4, "tiny-sd", "no forward mode.*difference"),
    ("flow_map", "instant_share: 0.9, end_share: 0.2", 4, "gmm", "more than 1"),
    ("rcm", "w_dmd: 0, w_consistency: 0", 4, "gmm", "train nothing"),
    ("rcm", "rollout: 0", 4, "gmm", "rollout"),
    ("rcm", "", 51, "gmm", "51"),
    ("perflow", "windows: 3", 4, "gmm", "3 windows|windows.*divide|divide.*windows"),
    ("perflow", "windows: 4", 2, "gmm", "2"),
    ("perflow", "windows: 4, one_step_share: 0.5", 4, "gmm", "set windows to 1"),
    ("perflow", "reads: diff_eps", 4, "gmm-flow", "diff_eps|noise"),
    ("lightning", "stages: [32, 12]", 12, "gmm", "divide"),
    ("lightning", "", 2, "gmm", "trained down to 4 steps has no 2"),
    ("lightning", "w_mse: 0", 4, "gmm", "train nothing"),
    ("ladd", "extractor: dino.py", 4, "gmm", "package.module:function"),
    ("ladd", "layers: []", 4, "gmm", "at least one"),
    ("ladd", "heads: both", 4, "gmm", "heads.*shared.*each"),
    ("ladd", "", 3, "gmm", "were not trained"),
    ("tdm_unify", "", 3, "gmm", "3"),
    ("tcd", "soft_steps: -1", 4, "gmm", "soft_steps"),
    ("tscd", "segments: [3], ends: edge", 4, "gmm", "3"),
]


@pytest.mark.parametrize(("method", "params", "nfe", "backbone", "what"), WRONG)
def test_it_is_one_line_with_its_place(
    method: str,
    params: str,
    nfe: int,
    backbone: str,
    what: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    text = HEAD.format(method=method, params=params, nfe=nfe, backbone=backbone)
    Path("e.yaml").write_text(text.replace("[sw]", "[clip]" if "tiny" in backbone else "[sw]"))
    with pytest.raises(BadInput, match=what) as caught:
        checked_plan(load_experiment(Path("e.yaml")))
    lines = [line for line in caught.value.line.splitlines() if "column" not in line]
    assert len(lines) == 1
    assert lines[0].startswith("e.yaml:4:")


def test_a_missing_extractor_is_known_to_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = HEAD.format(
        method="ladd", params="extractor: 'no_such_module:make'", nfe=4, backbone="gmm"
    )
    Path("e.yaml").write_text(text)
    plan = checked_plan(load_experiment(Path("e.yaml")))
    (lacking,) = missing(plan, Store("store"))
    assert "no such module for extractor" in lacking.need.line
    assert "put it on PYTHONPATH" in lacking.need.line


def test_more_steps_than_times_are_said_without_the_librarys_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = HEAD.format(method="flow_map", params="", nfe=1001, backbone="gmm")
    Path("e.yaml").write_text(text + "limits: {nfe: 2000}\n")
    with pytest.raises(BadInput, match="sampling times must be a falling list") as caught:
        checked_plan(load_experiment(Path("e.yaml")))
    assert "pydantic" not in caught.value.line
    assert "validation error" not in caught.value.line
