"""Seconds a sample takes to be scored on a device: a set of noise is scored and thrown away."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from distillbench.api import registry
from distillbench.api.metric import Samples
from distillbench.core.lazy import torch
from distillbench.data.prompts import planned_prompts
from distillbench.score.evaluate import check_samples
from distillbench.score.precision import computing_in, precision_of
from distillbench.specs.context import Runtime
from distillbench.specs.stages import SampleSpec, ScoreSpec

__all__ = ["pace"]

MOST = 64
"""Samples of the set at most."""


def pace(
    spec: ScoreSpec, runtime: Runtime, *, device: str, updates: int, sample: Mapping[str, Any],
    beside: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Score noise of the samples' shape: seconds of a sample when scored again, and peak bytes.

    Args:
        updates: so many samples are scored, where the row has as many.
        sample, beside: spec of the samples, and the settings beside it.

    Raises:
        DistillbenchError: as a score stage.
    """
    from distillbench.numerics import Meter, repeatable

    meter, sampled = Meter(device), SampleSpec.read(sample, of="samples")
    told = Runtime.read(beside, of="samples")
    metric = registry.build_metric(*spec.plugin("metric", runtime))
    n = min(sampled.prompts.n, max(updates, MOST))
    with repeatable(runtime.threads), computing_in(precision_of(metric.config)):
        noise = _noise(sampled, told, n)
        reference = noise if metric.info.needs_reference else None
        check_samples(metric, noise)
        metric.load(device)
        for _ in range(2):  # what is made at the first use is not counted
            began = time.perf_counter()
            metric.score(noise, reference)
            took = time.perf_counter() - began
    peak = meter.totals()["peak_memory_bytes"]
    return {"seconds": took / n, "updates": n, "peak_memory_bytes": peak}


def _noise(sampled: SampleSpec, told: Runtime, n: int) -> Samples:
    """Samples of the right shape and type: a backbone's outline decodes latents to one."""
    from distillbench.outlines import META, Alive

    role: Any = "backbone" if sampled.sample_on is None else "sample_on"
    backbone = registry.build_backbone(*sampled.plugin(role, told))
    backbone.load(META)
    with Alive([]), torch.no_grad():
        made = backbone.decode(torch.empty((1, *backbone.latent_shape), device=META))
    shape = (n, *made.shape[1:])
    generator = torch.Generator().manual_seed(0)
    if made.is_floating_point():
        data = torch.randn(shape, generator=generator).to(made.dtype)
    else:
        data = torch.randint(0, 256, shape, dtype=made.dtype, generator=generator)
    chosen = planned_prompts(told.prompts, sampled.prompts.sha256)
    order = [i % len(chosen.prompts) for i in range(n)]
    categories = [chosen.categories[i] if chosen.categories else "" for i in order]
    return Samples(data, [chosen.prompts[i] for i in order], categories, sampled.seed)
