"""What a sample takes to be drawn and to be scored is timed, and thrown away."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import pytest

from distillbench.api import registry
from distillbench.data.prompts import prompt_identity
from distillbench.run import pace
from distillbench.testing.specs import sample_spec, score_spec

PROMPTS = {"gmm": "gmm-eval", "tiny-sd": "world-eval"}


def sampled(backbone: str, method: str) -> dict[str, Any]:
    built = registry.build_backbone(backbone, {})
    made = registry.build_method(method, {}, built)
    return sample_spec(
        backbone={"name": backbone, "params": {}, "revision": built.revision()},
        method={"name": method, "version": made.version, "params": {}},
        sampler=made.sampler(2).model_dump(mode="json"), batch_size=4,
        prompts={"sha256": prompt_identity(PROMPTS[backbone]), "n": 6},
    )  # fmt: skip


def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **asked: Any) -> Any:
    asked = {"device": "cpu", "updates": 4, **asked}
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(asked)))
    pace.main()
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(("backbone", "method", "metric"), [
    ("gmm", "lcm", "coverage"), ("gmm", "teacher", "sw"), ("tiny-sd", "lcm", "clip"),
])  # fmt: skip
def test_samples_and_scores_are_timed(
    backbone: str, method: str, metric: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    spec = sampled(backbone, method)
    runtime = {"prompts": PROMPTS[backbone]}
    found = told(monkeypatch, capsys, kind="sample", spec=spec, runtime=runtime,
                 beside={"precision": "float32"})  # fmt: skip
    assert found["updates"] == 4
    assert 0 < found["seconds"] < 60
    assert found["peak_memory_bytes"] > 0
    built = registry.build_metric(metric, {})
    scored = score_spec(metric={"name": metric, "version": built.version, "params": {},
                                           "revision": built.revision()})  # fmt: skip
    found = told(monkeypatch, capsys, kind="score", spec=scored, runtime={},
                 beside={"sample": spec, "beside": runtime})  # fmt: skip
    assert found["updates"] == 6
    assert 0 < found["seconds"] < 60


def test_what_cannot_be_timed_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = {**sampled("gmm", "lcm"), "backbone": {"name": "nothing", "params": {}, "revision": ""}}
    found = told(monkeypatch, capsys, kind="sample", spec=spec, runtime={"prompts": "gmm-eval"},
                 beside={"precision": "float32"})  # fmt: skip
    assert "nothing" in found["error"]
