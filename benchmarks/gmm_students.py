"""Four-step students against the four-step teacher in the exact world.

    python benchmarks/gmm_students.py --seeds 0 1 2

Prints the sliced Wasserstein distance to the exact mixture (32,000 samples, 4,000 a condition),
unguided, with B = 256: the exact DDIM teacher, TDM after 2,000 steps, LCM after 3,000. About 20 to
30 CPU seconds a training.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distillbench import registry
from distillbench.sample.generate import generate_images, load_student
from distillbench.score.metric import Samples
from distillbench.testing.method import train, train_spec

SHARED = {"nets": "copy", "weight_decay": 0.0}
RUNS: Mapping[str, tuple[str, int, dict[str, Any]]] = {
    "teacher": ("teacher", 1, {"guidance_scale": 1.0}),
    "tdm": ("tdm", 2000, {
        **SHARED, "lr": 5e-4, "fake_lr": 2e-3, "ema": 0.99, "guidance_scale": 1.0
    }),
    "lcm": ("lcm", 3000, {**SHARED, "lr": 1e-3, "guidance": [1.0, 1.0]}),
}  # fmt: skip
SAMPLES, NFE = 32_000, 4


def distances(name: str, seed: int) -> dict[str, float]:
    """Train one student and score it, with each solver where its sampler has a choice."""
    method, steps, params = RUNS[name]
    prompts = [f"condition {i % 8}" for i in range(SAMPLES)]
    with tempfile.TemporaryDirectory() as folder:
        train(train_spec(method, params, steps=steps, batch_size=256, seed=seed), Path(folder))
        student = load_student(Path(folder) / "out")
    recipe = student.method.sampler(NFE)
    recipes = {name: recipe}
    if name == "tdm":
        recipes = {
            f"{name} {solver}": recipe.model_copy(update={"solver": solver})
            for solver in ("ddim", "dpmsolver++")
        }
    return {
        label: _distance(generate_images(
            student, prompts, sampler=sampler, seed=1000 + seed, batch_size=2000
        ), prompts)
        for label, sampler in recipes.items()
    }  # fmt: skip


def _distance(points: Any, prompts: list[str]) -> float:
    samples = Samples(points, prompts, [""] * len(prompts), 0)
    return float(registry.build_metric("sw", {}).score(samples).aggregate[""])


def main() -> None:
    """Print one line per method: the values of all seeds, their mean, the ratio to the teacher."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    seeds, teacher = parser.parse_args().seeds, 0.0
    for name in RUNS:
        per_seed = [distances(name, seed) for seed in seeds]
        for label in per_seed[0]:
            values = [row[label] for row in per_seed]
            mean = statistics.fmean(values)
            teacher = teacher or mean
            shown = " ".join(f"{v:.4f}" for v in values)
            sys.stdout.write(f"{label:18} {mean:.4f}  x{mean / teacher:.2f}  ({shown})\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
