"""The teacher is sampled as published baselines are, whatever its students are trained at."""

from __future__ import annotations

import pytest

from distillbench.api.registry import build_backbone, build_method


@pytest.mark.parametrize("name", ["sd", "pixart", "cogvideox"])
def test_baselines_use_trailing_times(name: str) -> None:
    teacher = build_method("teacher", {}, build_backbone(name, {}))
    assert teacher.sampler(4).timesteps == (999, 749, 499, 249)
    # 1000 / 30 is no whole number: rounded as diffusers does, not floored as a student's nodes.
    assert teacher.sampler(30).timesteps[1] == 966


def test_a_flow_teacher_starts_at_pure_noise_and_has_its_shift() -> None:
    teacher = build_method("teacher", {}, build_backbone("sd3", {}))
    assert teacher.sampler(4).timesteps == (1000, 900, 750, 500)


def test_students_keep_the_nodes_of_their_family() -> None:
    student = build_method("tdm", {}, build_backbone("cogvideox", {}))
    assert student.sampler(4).timesteps == (999, 856, 665, 399)


def test_guidance_and_solver_are_in_the_recipe() -> None:
    params = {"solver": "dpmsolver++2s", "guidance_scale": 3.5}
    recipe = build_method("teacher", params, build_backbone("sd", {})).sampler(8)
    assert (recipe.solver, recipe.guidance_scale, recipe.nfe) == ("dpmsolver++2s", 3.5, 8)
