"""Samples of another tool, kept as those of a student are."""

from __future__ import annotations

from pathlib import Path

import torch

from distillbench.data.given import given_samples, read_sample
from distillbench.data.prompts import planned_prompts
from distillbench.errors import BadInput, Interrupted
from distillbench.files.io import write_json
from distillbench.specs.context import StageContext
from distillbench.specs.stages import GivenSpec
from distillbench.store.samples import SampleWriter

__all__ = ["given_stage"]

AT_ONCE = 32


def given_stage(spec: GivenSpec, context: StageContext, *, out: Path) -> None:
    """Read the files of a folder and write them into `out` as `sample_stage` does.

    Raises:
        BadInput: the folder holds other files than those that were planned with.
        Interrupted: it was asked to stop.
    """
    root, n = Path(context.runtime.samples), spec.prompts.n
    chosen = planned_prompts(context.runtime.prompts, spec.prompts.sha256)
    found = given_samples(root, chosen, n)
    if found.sha256 != spec.samples_sha256:
        raise BadInput(
            f"{root}: not the samples that this run was planned with",
            hint="plan again, and leave them as they are meanwhile",
        )
    shards = SampleWriter(out)
    for done, file in enumerate(found.files):
        if done % AT_ONCE == 0 and context.should_stop():
            raise Interrupted(f"stopped after {done} of {n} samples")
        shards.add(torch.from_numpy(read_sample(root / file)[None].copy()))
        if (done + 1) % AT_ONCE == 0 or done + 1 == n:
            context.progress({"kind": "sample", "done": done + 1, "total": n})
    order = [i % len(chosen) for i in range(n)]
    prompts = [chosen.prompts[i] for i in order]
    categories = [chosen.categories[i] for i in order]
    shards.close(prompts, categories, spec.seed)
    write_json(out / "cost.json", {"device": ""})  # nobody here knows what they cost
