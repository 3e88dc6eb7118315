"""Rows with LoRAs of others on top, as they are planned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from distillbench.plan.requirements import requirements
from distillbench.plan.stage import Plan
from distillbench.store.layout import Store

PlanOf = Callable[..., Plan]
ErrorsOf = Callable[..., list[str]]
HEAD = """\
name: t
backbones: {base: {use: sd, params: {model: a/base}}}
base: {backbone: base, train: {updates: 10}, data: {prompts: world-train},
       sample: {n: 16, prompts: world-eval}, nfe: 4}
metrics: [fid]
reference: {method: teacher}
"""


def lora(path: str, layer: str = "down_blocks_0_attn") -> None:
    stem = f"lora_unet_{layer}"
    shapes = {f"{stem}.lora_down.weight": (2, 4), f"{stem}.lora_up.weight": (4, 2)}
    save_file({name: np.zeros(shape, np.float32) for name, shape in shapes.items()}, path)


def test_they_are_of_samples_and_of_the_reference(plan_of: PlanOf) -> None:
    Path("here").mkdir()
    rows = """\
rows:
  - {label: Plain, method: tdm}
  - {label: Styled, method: tdm, adapters: [{weights: s.safetensors, scale: 0.5}]}
  - {label: Styled more, method: tdm, adapters: [{weights: s.safetensors}]}
"""
    lora("s.safetensors")
    plan = plan_of(rows, head=HEAD)
    plain, styled, more = plan.cells
    assert plain.train == styled.train == more.train
    assert len({cell.sample for cell in plan.cells}) == 3
    assert "adapters" not in plan.stages[plain.sample].spec
    spec = plan.stages[styled.sample].spec["adapters"]
    assert spec[0]["scale"] == 0.5
    assert plan.stages[styled.sample].options.adapters == ["s.safetensors"]
    reference = plan.stages[plan.stages[styled.scores["fid"]].spec["reference"]]
    assert reference.spec["adapters"] == spec
    before = styled.sample
    Path("s.safetensors").rename("here/t.safetensors")
    text = rows.replace("s.safetensors", "here/t.safetensors")
    assert plan_of(text, head=HEAD).cells[1].sample == before  # its place is in no key


def test_what_is_missing_or_does_not_fit(
    plan_of: PlanOf, errors_of: Callable[..., list[str]]
) -> None:
    row = "rows: [{{label: A, method: tdm, adapters: [{{weights: {}}}]}}]\n"
    plan = plan_of(row.format("some/style:a.safetensors"), head=HEAD)
    needs = [n.need for n in requirements(plan, Store("store")) if n.need.problem]
    assert any("hf download some/style a.safetensors" in need.line for need in needs)
    (line,) = errors_of(row.format("gone.safetensors"), head=HEAD)
    assert line.startswith(
        "e.yaml:7:44: rows[0].adapters[0].weights: no weights in gone.safetensors"
    )
    Path("bad.safetensors").write_bytes(b"x")
    assert "bad.safetensors" in errors_of(row.format("bad.safetensors"), head=HEAD)[0]
    gmm = HEAD.replace("{use: sd, params: {model: a/base}}", "gmm").replace("fid", "mmd")
    gmm = gmm.replace("world-train", "gmm-train").replace("world-eval", "gmm-eval")
    lora("s.safetensors")
    assert "reads no weights of others" in errors_of(row.format("s.safetensors"), head=gmm)[0]
