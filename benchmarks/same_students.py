"""Train every method and variant briefly and print a digest of the student's bytes and the losses.

    python benchmarks/same_students.py > before.txt     # ... change the code ...
    python benchmarks/same_students.py | diff before.txt -

No difference means the same student and losses, bit for bit, on this machine. Settings are those of
the exact world, and a few of `tiny-sd`, where adapters share one base and heads read feature maps.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from distillbench.testing.method import train, train_spec

Params = Mapping[str, Any]

COPY = {"nets": "copy", "lr": 1e-3, "weight_decay": 0}
FAKE = {**COPY, "fake_lr": 2e-3}
PLAIN = {**FAKE, "teacher_guidance": 1.0}
JUMP = {**COPY, "teacher_guidance": [1.0, 1.0]}
ALL_ADV = {"w_adv": [0.1, 0.1, 0.1, 0.5]}

GMM: dict[str, list[Params]] = {
    "teacher": [{}],
    "sft": [{}, {**COPY, "guidance_scale": 1.0}, {"nets": "copy", "ema": 0.9, "drop_prompt": 0.5}],
    "lcm": [
        {}, JUMP, {**COPY, "distance": "l2"}, {**COPY, "target": "stopgrad"},
        {"nets": "copy", "embed_guidance": False}, {**COPY, "solver_steps": 25, "huber_c": 0.01},
    ],
    "tcd": [
        {}, JUMP, COPY, {**JUMP, "tcf": "2"}, {**COPY, "tcf": "2", "ends": "integers"},
        {**JUMP, "tcf": "S+", "ends": "integers"}, {**COPY, "tcf": "S+"},
        {"nets": "copy", "ends": "integers"}, {**COPY, "target": "stopgrad", "distance": "huber"},
    ],
    "tscd": [
        {}, {**JUMP, "stop_at_segments": 4}, {**JUMP, "gamma": 0.3}, {"nets": "copy"},
        {"nets": "copy", "teacher_guidance": [2, 5], "w_adv": [0, 0.1, 0.1, 0.5]},
        {**JUMP, **ALL_ADV, "offset_noise": 0}, {**JUMP, "gamma": 0.3, "one_step": True},
        {"nets": "copy", "one_step": True, **ALL_ADV, "teacher_guidance": [2, 5]},
        {"nets": "copy", "one_step": True, "w_dmd": 0},
        {"one_step": True, "one_step_teacher_guidance": 3},
        {"nets": "copy", "one_step": True, "w_one_step_mse": 0, "fake_updates": 2},
        {"nets": "copy", "one_step": True, "phase_updates": [3, 3, 3, 3, 4]},
        {"gamma": 0.5, "phase_updates": [1, 1, 1, 3]},
    ],
    "dmd2": [
        {}, {**PLAIN, "ema": 0.99}, {**PLAIN, "adversarial_weight": 0.3},
        {**FAKE, "adversarial_weight": 0.3, "adversarial_features": "teacher"},
        {**PLAIN, "student_input": "data"}, {**FAKE, "fake_updates": 2, "adversarial_weight": 0.01},
        {**PLAIN, "steps": 1},
        {**PLAIN, "steps": 1, "regression": "pretrain", "regression_updates": 3, "input_time": 399},
        {**PLAIN, "steps": 1, "regression": "joint", "fake_updates": 1},
    ],
    "tdm": [
        {}, {**PLAIN, "ema": 0.99}, {**FAKE, "divergence": "fisher"},
        {**PLAIN, "train_solver": "dpmsolver++"}, {**PLAIN, "random_matching_time": True},
        {**PLAIN, "fake_target": "dsm"}, {**PLAIN, "match": "clean"},
        {**PLAIN, "fake_sampling": "clean"}, {**PLAIN, "tau": "terminal"}, {**PLAIN, "loss": "mse"},
        {**PLAIN, "huber_form": "vector", "huber_c": 0.1}, {**FAKE, "normalizer": "none"},
        {**PLAIN, "steps": 2, "horizon": 900},
        {**FAKE, "divergence": "fisher", "train_solver": "dpmsolver++",
         "random_matching_time": True},
        {**FAKE, "fake_sampling": "clean", "train_solver": "dpmsolver++"},
    ],
    "tdm_unify": [
        {}, {**PLAIN, "ema": 0.99}, {**PLAIN, "condition": False}, {**PLAIN, "loss": "mse"},
        {**PLAIN, "adversarial_weight": 3.0}, {**PLAIN, "steps_support": [4]},
        {**FAKE, "adversarial_weight": 1.0, "adversarial_features": "teacher"},
        {**FAKE, "adversarial_weight": 1.0, "fake_sampling": "clean"},
        {**FAKE, "adversarial_weight": 1.0, "divergence": "fisher"},
        {**PLAIN, "steps_support": [1, 2, 4, 8], "train_solver": "dpmsolver++"},
    ],
}  # fmt: skip

TINY: dict[str, list[Params]] = {
    "sft": [{}],
    "lcm": [{}, {"nets": "copy"}],
    "tcd": [{"tcf": "S+"}, {"nets": "copy", "tcf": "2"}],
    "tscd": [{"w_adv": [0.1, 0.1, 0.1, 0.1]}, {"nets": "copy", "one_step": True}],
    "dmd2": [{"adversarial_weight": 0.3}, {"nets": "copy", "fake_updates": 1}],
    "tdm": [{}, {"nets": "copy", "divergence": "fisher"}, {"divergence": "fisher"}],
    "tdm_unify": [{}, {"adversarial_weight": 0.3}],
}


def digest(method: str, params: Params, **settings: Any) -> str:
    """Digests of the student's file and of all logged losses, 12 digits each."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train(train_spec(method, params, **settings), folder)
        return " ".join(_short(folder / "out" / n) for n in ("student.safetensors", "train.jsonl"))


def _short(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12] if path.exists() else "-" * 12


def lines(only: str = "") -> Iterator[str]:
    """One line a setting; `only` is a method, or a world."""
    tiny = {"backbone": "tiny-sd", "prompts": "world-train", "updates": 2, "batch_size": 4}
    for world, table, settings in (
        ("gmm", GMM, {"updates": 10, "batch_size": 16}), ("tiny-sd", TINY, tiny),
    ):  # fmt: skip
        for method, rows in table.items():
            for params in rows if only in ("", method, world) else ():
                said = json.dumps(params, sort_keys=True)
                yield f"{digest(method, params, **settings)} {world} {method} {said}"


if __name__ == "__main__":
    for line in lines(*sys.argv[1:2]):
        print(line, flush=True)
