"""A LoRA trained on the tiny world, exported for other tools, as a row of an experiment again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

import distillbench
from distillbench.data.prompts import load_prompts
from distillbench.student.diffusers import export_student
from distillbench.student.files import load_student
from distillbench.testing.method import train, train_spec

FORMS: tuple[Any, ...] = ("diffusers", "kohya", "peft")
N = 2


def test_the_same_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lora = {"nets": "lora", "rank": 4, "lora_alpha": 2, "lr": 0.02}
    spec = train_spec("lcm", lora, backbone="tiny-sd", prompts="world-train", updates=3,
                      batch_size=2)  # fmt: skip
    train(spec, tmp_path / "one")
    run = tmp_path / "one/out"
    sampler = load_student(run).method.sampler(4)
    for form in FORMS:
        export_student(run, tmp_path / form, lora=form)
    prompts = list(load_prompts("world-eval").prompts[:N])
    student = distillbench.load_student(run)
    ours = np.stack([np.asarray(p, int) for p in student.sample(prompts, nfe=4)])
    params = {"sampler": {"kind": "renoise", "boundary": True}, "nodes": [*sampler.timesteps]}
    done = distillbench.run({
        "name": "back",
        "base": {"backbone": "tiny-sd", "sample": {"n": N, "prompts": "world-eval"}, "nfe": 4},
        "rows": [
            *({"label": form, "method": "pretrained", "params": {**params, "weights": f"./{form}"}}
              for form in FORMS),
            {"label": "Teacher", "method": "teacher", "params": {"guidance_scale": 1.0}},
        ],
    }, workers=1)  # fmt: skip
    drawn = {}
    for cell in done.plan.cells:
        (file,) = Path("results/store/sample", cell.sample).glob("*.safetensors")
        (pictures,) = load_file(file).values()
        drawn[cell.label] = pictures.numpy().astype(int)
    assert all(np.abs(drawn[form] - ours).max() <= 1 for form in FORMS)
    assert np.abs(drawn["Teacher"] - ours).max() > 8
