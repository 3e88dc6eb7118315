"""Short trainings in the exact world beat the teacher at the same number of steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from distillbench.api import registry
from distillbench.api.metric import Samples
from distillbench.sample.generate import generate_images, load_student
from distillbench.testing.method import train, train_spec

PROMPTS = [f"condition {i % 8}" for i in range(4000)]
SETTINGS: dict[str, tuple[int, dict[str, Any]]] = {
    "tdm": (250, {"fake_lr": 2e-3, "ema": 0.98, "teacher_guidance": 1.0, "test_solver": "ddim"}),
    "lcm": (400, {"teacher_guidance": [1.0, 1.0]}),
    "tcd": (400, {"teacher_guidance": [1.0, 1.0]}),
    "tscd": (400, {"teacher_guidance": [1.0, 1.0], "stop_at_segments": 4}),
}


def distances(folder: Path) -> dict[str, float]:
    """Sliced Wasserstein distance and MMD^2 of four-step samples."""
    student = load_student(folder / "out")
    sampler = student.method.sampler(4)
    points = generate_images(student, PROMPTS, sampler=sampler, seed=5, batch_size=2000)
    samples = Samples(points, PROMPTS, [""] * len(PROMPTS), 5)
    metrics = {name: registry.build_metric(name, {}) for name in ("sw", "mmd")}
    return {name: metric.score(samples).aggregate[""] for name, metric in metrics.items()}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    folder = tmp_path_factory.mktemp("teacher")
    train(train_spec("teacher", {"guidance_scale": 1.0}), folder)
    return distances(folder)


def test_the_four_step_teacher_is_where_it_should_be(teacher: dict[str, float]) -> None:
    assert teacher["sw"] == pytest.approx(0.19, abs=0.02)


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_a_short_training_beats_the_four_step_teacher(
    tmp_path: Path, teacher: dict[str, float], name: str
) -> None:
    steps, params = SETTINGS[name]
    shared = {"nets": "copy", "lr": 1e-3, "weight_decay": 0.0}
    train(train_spec(name, {**shared, **params}, updates=steps, batch_size=128), tmp_path)
    found = distances(tmp_path)
    assert all(found[metric] < 0.75 * value for metric, value in teacher.items())
