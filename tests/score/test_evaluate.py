"""The score stage: what it writes, and everything it refuses to let through."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel
from safetensors.torch import save_file

from distillbench.api.metric import Metric, MetricInfo, Samples, Scores, mean_scores
from distillbench.api.registry import METRICS
from distillbench.errors import Interrupted, NotSupported, StageFailed
from distillbench.score import evaluate as stage
from distillbench.score.progress import tick
from distillbench.specs.context import StageContext
from distillbench.specs.stages import ScoreSpec
from distillbench.testing.specs import score_spec

PROMPTS = ["red", "green", "blue", "grey"]


class Brightness(Metric):
    """Mean pixel value; `give` replaces its answer."""

    class Config(BaseModel):
        scale: float = 1.0

    info = MetricInfo("Brightness", higher_is_better=True, per_category=True)
    name = "brightness"
    version = 3
    give: Scores | None = None

    def revision(self) -> str:
        return "none"

    def score(self, samples: Samples, reference: Samples | None = None) -> Scores:
        tick(len(samples), len(samples))
        values = samples.data.float().flatten(1).mean(dim=1) * self.config.scale
        protocol = {"scale": self.config.scale}
        return self.give or mean_scores(samples, values.tolist(), protocol, per_category=True)


@pytest.fixture
def samples() -> Samples:
    data = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 8, 8, 3).contiguous()
    return Samples(data, PROMPTS, ["warm", "cold", "cold", ""], seed=0, key="abc")


def answer(metric: Brightness, **fields: Any) -> Brightness:
    metric.give = Scores(**{"aggregate": {"": 1.0}, "per_sample": {"": [1.0] * 4}} | fields)
    return metric


def metric() -> Brightness:
    return Brightness(Brightness.Config())


def write_samples(folder: Path, samples: Samples) -> None:
    """What a sample stage leaves."""
    folder.mkdir(exist_ok=True)
    save_file({"samples": samples.data}, folder / "samples-00000.safetensors")
    named = zip(samples.prompts, samples.categories, strict=True)
    rows = [{"index": i, "prompt": p, "category": c} for i, (p, c) in enumerate(named)]
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    record = {"n": len(samples), "seed": samples.seed, "shards": 1}
    (folder / "samples.json").write_text(json.dumps(record))


def run(
    tmp_path: Path, samples: Samples, monkeypatch: pytest.MonkeyPatch, **overrides: Any
) -> list[Mapping[str, Any]]:
    write_samples(tmp_path / "abc", samples)
    monkeypatch.setitem(METRICS._loaded, "brightness", Brightness)
    wanted = {"name": "brightness", "version": 3, "params": {"scale": 2.0}, "revision": "none"}
    events: list[Mapping[str, Any]] = []
    spec = score_spec(metric=wanted | overrides.pop("metric", {}))
    context = StageContext(progress=events.append, **overrides)
    stage.score_stage(
        ScoreSpec.read(spec, of="it"),
        context,
        sample_dir=tmp_path / "abc",
        reference_dir=None,
        out=tmp_path,
    )
    return events


def test_rows_can_be_aggregated_again(
    tmp_path: Path, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = run(tmp_path, samples, monkeypatch)
    lines = (tmp_path / "scores.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    own = [r for r in rows if r["kind"] == "sample"]
    assert [r["value"] for r in own] == [0.0, 2.0, 4.0, 6.0]
    assert [r["prompt"] for r in own] == PROMPTS
    assert [r["index"] for r in own] == [0, 1, 2, 3]
    totals = {r["column"]: (r["value"], r["n"]) for r in rows if r["kind"] == "aggregate"}
    assert totals == {"": (3.0, 4), "warm": (0.0, 1), "cold": (3.0, 2)}
    protocol = json.loads((tmp_path / "protocol.json").read_text())
    assert protocol["scale"] == 2.0
    assert protocol["label"] == "Brightness"
    assert protocol["n"] == 4
    assert events[-1] == {"kind": "score", "done": 4, "total": 4}


def test_a_metric_that_changed_since_the_plan_is_refused(
    tmp_path: Path, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    for field in ({"version": 2}, {"revision": "older weights"}):
        with pytest.raises(StageFailed, match=f"its {next(iter(field))} is"):
            run(tmp_path, samples, monkeypatch, metric=field)
    assert not (tmp_path / "scores.jsonl").exists()


def test_a_stop_request_ends_it(
    tmp_path: Path, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Interrupted):
        run(tmp_path, samples, monkeypatch, should_stop=lambda: True)


def test_stderr_is_written_where_known(samples: Samples) -> None:
    scores = Scores({"": 1.0, "x": 2.0}, stderr={"": 0.5})
    rows = list(stage.rows(samples, scores))
    assert rows[0]["stderr"] == 0.5
    assert "stderr" not in rows[1]


# ---- refusals -----------------------------------------------------------------------------


def test_a_nan_names_its_sample(samples: Samples) -> None:
    broken = answer(metric(), per_sample={"": [1.0, 2.0, math.nan, 3.0]})
    with pytest.raises(StageFailed, match=r"sample 2 \(prompt 'blue'\)"):
        stage.evaluate(broken, samples)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"per_sample": {"": [1.0] * 3}}, "3 values for 4 samples"),
        ({"per_sample": {}}, "promises per-sample values"),
        ({"aggregate": {"other": 1.0}}, "no value of its own"),
        ({"aggregate": {"": math.inf}}, "aggregate column '' is inf"),
        ({"stderr": {"": math.nan}}, "standard error of column '' is nan"),
    ],
)
def test_incomplete_scores_are_refused(
    samples: Samples, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(StageFailed, match=message):
        stage.evaluate(answer(metric(), **fields), samples)


def test_points_that_are_not_finite_name_their_sample() -> None:
    class Points(Brightness):
        info = dataclasses.replace(Brightness.info, modality=frozenset({"point"}))

    data = torch.zeros(4, 2)
    data[3, 1] = math.nan
    with pytest.raises(StageFailed, match=r"sample 3 \(prompt 'grey'\)"):
        stage.evaluate(Points(Points.Config()), Samples(data, PROMPTS, [""] * 4, 0))


@pytest.mark.parametrize("prompts", [[], PROMPTS[:3]])
def test_ragged_samples_are_refused(samples: Samples, prompts: Sequence[str]) -> None:
    with pytest.raises(StageFailed, match="4 samples for"):
        stage.evaluate(metric(), dataclasses.replace(samples, prompts=prompts))


def test_foreign_modality_and_reference_are_refused(samples: Samples) -> None:
    with pytest.raises(NotSupported, match="scores image samples, not point"):
        stage.evaluate(metric(), dataclasses.replace(samples, data=torch.zeros(4, 2)))
    with pytest.raises(NotSupported, match="takes no reference"):
        stage.evaluate(metric(), samples, samples)
    with pytest.raises(NotSupported, match="no known modality"):
        stage.evaluate(metric(), dataclasses.replace(samples, data=torch.zeros(4)))


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (torch.zeros(4, 8, 8, 1, dtype=torch.uint8), "uint8 4x8x8x1"),
        (torch.zeros(4, 8, 8, 4, dtype=torch.uint8), "uint8 4x8x8x4"),
        (torch.zeros(4, 3, 8, 8, dtype=torch.uint8), "uint8 4x3x8x8"),
        (torch.zeros(4, 8, 8, 3), "float32 4x8x8x3"),
        (torch.zeros(4, 8, 8, 3, dtype=torch.int64), "int64 4x8x8x3"),
        (torch.zeros(4, 0, 8, 3, dtype=torch.uint8), "uint8 4x0x8x3"),
    ],
)
def test_pictures_of_another_layout_are_refused_for_every_metric(
    samples: Samples, data: torch.Tensor, what: str
) -> None:
    with pytest.raises(StageFailed, match=rf"uint8 \(n, H, W, 3\), not {what}"):
        stage.evaluate(metric(), dataclasses.replace(samples, data=data))


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("video", torch.zeros(4, 2, 8, 8, 1, dtype=torch.uint8)),
        ("video", torch.zeros(4, 2, 8, 8, 3)),
        ("point", torch.zeros(4, 2, dtype=torch.int64)),
        ("point", torch.zeros(4, 0)),
    ],
)
def test_videos_and_points_have_a_layout_too(kind: str, data: torch.Tensor) -> None:
    class Other(Brightness):
        info = dataclasses.replace(Brightness.info, modality=frozenset({kind}))

    with pytest.raises(StageFailed, match=f"{kind} samples must be"):
        stage.evaluate(Other(Other.Config()), Samples(data, PROMPTS, [""] * 4, 0))


@pytest.mark.parametrize(
    "value",
    [None, "1.5", -math.inf, 10**400, 1j, [1.0], torch.ones(2), torch.tensor(math.nan)],
    ids=str,
)
def test_what_is_no_number_is_refused_wherever_it_stands(samples: Samples, value: Any) -> None:
    column = {"": [1.0, value, 1.0, 1.0]}
    with pytest.raises(StageFailed, match=r"sample 1 .* is not finite in column ''"):
        stage.evaluate(answer(metric(), per_sample=column), samples)
    for where in ("aggregate", "stderr"):
        with pytest.raises(StageFailed, match="column '' is "):
            stage.evaluate(answer(metric(), **{where: {"": value}}), samples)


def test_what_is_no_record_of_scores_is_refused(samples: Samples) -> None:
    broken = metric()
    broken.score = lambda samples, reference=None: [1.0, 2.0]  # type: ignore[assignment]
    with pytest.raises(StageFailed, match="brightness: gives list, not Scores"):
        stage.evaluate(broken, samples)
