"""Short trainings in the exact world beat the teacher at the same number of steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from distillbench import registry
from distillbench.sample.generate import generate_images, load_student
from distillbench.score.metric import Samples
from distillbench.testing.method import train, train_spec

PROMPTS = [f"condition {i % 8}" for i in range(4000)]
SETTINGS: dict[str, tuple[int, dict[str, Any]]] = {
    "tdm": (250, {"fake_lr": 2e-3, "ema": 0.98, "guidance_scale": 1.0, "test_solver": "ddim"}),
    "lcm": (400, {"guidance": [1.0, 1.0]}),
    "tcd": (400, {"guidance": [1.0, 1.0]}),
    "tscd": (400, {"guidance": [1.0, 1.0], "stop_at_segments": 4}),
}


def distance(folder: Path) -> float:
    student = load_student(folder / "out")
    sampler = student.method.sampler(4)
    points = generate_images(student, PROMPTS, sampler=sampler, seed=5, batch_size=2000)
    samples = Samples(points, PROMPTS, [""] * len(PROMPTS), 5)
    return float(registry.build_metric("sw", {}).score(samples).aggregate[""])


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> float:
    folder = tmp_path_factory.mktemp("teacher")
    train(train_spec("teacher", {"guidance_scale": 1.0}), folder)
    return distance(folder)


def test_the_four_step_teacher_is_where_it_should_be(teacher: float) -> None:
    assert teacher == pytest.approx(0.19, abs=0.02)


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_a_short_training_beats_the_four_step_teacher(
    tmp_path: Path, teacher: float, name: str
) -> None:
    steps, params = SETTINGS[name]
    shared = {"nets": "copy", "lr": 1e-3, "weight_decay": 0.0}
    train(train_spec(name, {**shared, **params}, steps=steps, batch_size=128), tmp_path)
    found = distance(tmp_path)
    assert found < 0.75 * teacher
