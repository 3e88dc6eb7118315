"""The score stage: one metric over one sample set, written as rows that can be re-aggregated.

`scores.jsonl` has one row per sample and column the metric has values for, and one per aggregate;
`protocol.json` holds everything that must agree before two values may share a table column.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from distillbench.api.metric import Metric, Samples, Scores
from distillbench.core.lazy import torch
from distillbench.errors import Interrupted, NotSupported, StageFailed
from distillbench.score.precision import computing_in, precision_of
from distillbench.score.progress import in_parts, listening
from distillbench.specs.context import Runtime, StageContext
from distillbench.specs.stages import ScoreSpec

__all__ = ["check_samples", "check_scores", "evaluate", "modality_of", "score_stage"]

MODALITIES = {2: "point", 4: "image", 5: "video"}
LAYOUTS = {
    "point": "floating (n, d)", "image": "uint8 (n, H, W, 3)",
    "video": "uint8 (n, frames, H, W, 3)",
}  # fmt: skip
Row = dict[str, Any]


def score_stage(
    spec: ScoreSpec,
    context: StageContext,
    *,
    sample_dir: Path,
    reference_dir: Path | None,
    out: Path,
) -> None:
    """Score the samples in `sample_dir` into `out`.

    Args:
        spec: names the metric, its parameters and identity.
        context: is told {"kind": "score", "done", "total"} as batches go by, and asked to stop.
        sample_dir, reference_dir: finished sample stages; the second only for metrics that compare.
        out: gets scores.jsonl and protocol.json.

    Raises:
        StageFailed: the metric changed since the plan, or a value is missing or not finite.
        Interrupted: it was asked to stop.
    """
    from distillbench.files.io import write_json, write_jsonl
    from distillbench.numerics import repeatable
    from distillbench.store.samples import open_samples

    metric = _metric(spec, context.runtime)

    def beat(done: int, total: int) -> None:
        context.progress({"kind": "score", "done": done, "total": total})
        if context.should_stop():
            raise Interrupted(f"{metric.name}: stopped; the same command scores it again")

    with listening(beat), repeatable(context.runtime.threads):
        beat(0, 1)
        samples = open_samples(sample_dir)
        reference = open_samples(reference_dir) if reference_dir else None
        scores = evaluate(metric, samples, reference, device=context.device)
    write_jsonl(out / "scores.jsonl", rows(samples, scores))
    write_json(out / "protocol.json", protocol(metric, samples, scores))


def _metric(spec: ScoreSpec, runtime: Runtime) -> Metric:
    """The metric a spec names, refused when it is no longer what the plan hashed."""
    from distillbench.api.registry import build_metric

    wanted = spec.metric
    metric = build_metric(*spec.plugin("metric", runtime))
    for what, planned, now in (
        ("version", wanted.version, metric.version),
        ("revision", wanted.revision, metric.revision()),
    ):
        if planned != now:
            raise StageFailed(
                f"metric {wanted.name}: its {what} is {now!r}, the plan says {planned!r}",
                hint="run the same command again to plan with what is installed now",
            )
    return metric


def evaluate(
    metric: Metric, samples: Samples, reference: Samples | None = None, *, device: str = "cpu"
) -> Scores:
    """Load a metric, score a sample set and check both ends.

    Raises:
        NotSupported: wrong modality, or a reference that is missing or not wanted.
        StageFailed: samples are not laid out as they must be, or a sample or score is not finite
            or missing.
        MissingWeights: the metric's weights are not on this disk.
    """
    if metric.info.needs_reference != (reference is not None):
        wants = "needs" if reference is None else "takes no"
        raise NotSupported(f"metric {metric.name} {wants} reference samples")
    samples = _given(metric, samples)
    reference = None if reference is None else _given(metric, reference)
    metric.load(device)
    with computing_in(precision_of(metric.config)):
        scores = metric.score(samples, reference)
    check_scores(metric, samples, scores)
    return scores


def _given(metric: Metric, samples: Samples) -> Samples:
    """The samples as the metric takes them, checked: in memory unless it streams."""
    check_samples(metric, samples)
    return samples if metric.streams else replace(samples, data=samples.data[:])


def modality_of(samples: Samples) -> str:
    """image, video or point, from the shape of the data. Raises NotSupported."""
    modality = MODALITIES.get(samples.data.ndim)
    if modality is None:
        raise NotSupported(f"samples of shape {tuple(samples.data.shape)} are of no known modality")
    return modality


def check_samples(metric: Metric, samples: Samples) -> None:
    """Refuse empty sets, ragged records, a foreign modality, layout or type, and no numbers.

    Pictures and videos are uint8 with 3 channels, points are floating: the one place where this is
    held for every metric. A grey picture would be broadcast to three channels or cut elsewhere.
    """
    n = len(samples)
    if not n or not (len(samples.data) == len(samples.categories) == n):
        raise StageFailed(
            f"{metric.name}: {len(samples.data)} samples for {n} prompts and "
            f"{len(samples.categories)} categories"
        )
    modality = modality_of(samples)
    if modality not in metric.info.modality:
        takes = ", ".join(sorted(metric.info.modality))
        raise NotSupported(f"metric {metric.name} scores {takes} samples, not {modality} samples")
    if wrong := _wrong_layout(modality, samples.data):
        raise StageFailed(
            f"{metric.name}: {modality} samples must be {LAYOUTS[modality]}, not {wrong}",
            hint=f"look at sample set {samples.key or '(no key)'}",
        )
    if samples.data.dtype.is_floating_point:
        for part in in_parts(n):
            finite = torch.isfinite(samples.data[part]).flatten(1).all(dim=1)
            if not bool(finite.all()):
                bad = part.start + int(finite.logical_not().nonzero()[0])
                raise _not_finite(metric, samples, bad, "data")


def _wrong_layout(modality: str, data: torch.Tensor) -> str:
    """How the data differs from `LAYOUTS`, "" where it does not."""
    pixels = modality != "point"
    typed = data.dtype == torch.uint8 if pixels else data.dtype.is_floating_point
    whole = 0 not in data.shape and (data.shape[-1] == 3 or not pixels)
    shape = "x".join(map(str, data.shape))
    return "" if typed and whole else f"{str(data.dtype).removeprefix('torch.')} {shape}"


def check_scores(metric: Metric, samples: Samples, scores: Scores) -> None:
    """Every column has one finite value per sample, and every aggregate is finite."""
    if not isinstance(scores, Scores):
        raise StageFailed(f"{metric.name}: gives {type(scores).__name__}, not Scores")
    if "" not in scores.aggregate:
        raise StageFailed(f"{metric.name}: gives no value of its own (column '')")
    if metric.info.per_sample and "" not in scores.per_sample:
        raise StageFailed(f"{metric.name}: promises per-sample values and gives none")
    for column, values in scores.per_sample.items():
        if len(values) != len(samples):
            raise StageFailed(
                f"{metric.name}: column {column!r} has {len(values)} values for "
                f"{len(samples)} samples"
            )
        for index, value in enumerate(values):
            if not _finite(value):
                raise _not_finite(metric, samples, index, f"column {column!r} ({value!r:.60})")
    blocks = {f"{c}#{i}": v for c, values in scores.blocks.items() for i, v in enumerate(values)}
    for kind, numbers in (
        ("aggregate", scores.aggregate), ("standard error of", scores.stderr), ("block of", blocks),
    ):  # fmt: skip
        for column, value in numbers.items():
            if not _finite(value):
                raise StageFailed(f"{metric.name}: {kind} column {column!r} is {value!r:.60}")


def _finite(value: Any) -> bool:
    """Whether a plug-in's value is a number, and a finite one."""
    try:
        return math.isfinite(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return False


def _not_finite(metric: Metric, samples: Samples, index: int, what: str) -> StageFailed:
    prompt = samples.prompts[index]
    return StageFailed(
        f"{metric.name}: sample {index} (prompt {prompt!r}) is not finite in {what}",
        hint=f"look at sample {index} of sample set {samples.key or '(no key)'}",
    )


def rows(samples: Samples, scores: Scores) -> Iterator[Row]:
    """Rows of scores.jsonl: samples, aggregates with n and, if known, stderr, left-out blocks."""
    for column, values in scores.per_sample.items():
        named = zip(samples.prompts, samples.categories, values, strict=True)
        for index, (prompt, category, value) in enumerate(named):
            yield {
                "kind": "sample",
                "index": index,
                "prompt": prompt,
                "category": category,
                "column": column,
                "value": float(value),
            }
    for column, value in scores.aggregate.items():
        # A category's column counts its own samples, every other column all of them.
        n = sum(c == column for c in samples.categories) if column else 0
        row = {"kind": "aggregate", "column": column, "value": float(value)}
        row["n"] = n or len(samples)
        if column in scores.stderr:
            row["stderr"] = float(scores.stderr[column])
        yield row
    for column, left_out in scores.blocks.items():
        for block, value in enumerate(left_out):
            yield {"kind": "block", "column": column, "block": block, "value": float(value)}


def protocol(metric: Metric, samples: Samples, scores: Scores) -> dict[str, Any]:
    """What must agree within a column: the metric's own terms, its identity, and the prompts."""
    prompts = "\n".join(samples.prompts).encode()
    precision = precision_of(metric.config)
    return {
        "metric": metric.name,
        "label": metric.label(),
        "version": metric.version,
        "revision": metric.revision(),
        "n": len(samples),
        "prompts_sha256": hashlib.sha256(prompts).hexdigest(),
        **({} if precision == "float32" else {"precision": precision}),
        **scores.protocol,
    }
