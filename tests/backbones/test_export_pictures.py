"""The obvious call of an export draws our pictures: its README's code, and a matrix of teachers.

Noise is the one thing that differs between a pipeline's run and ours, so here both draw the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from distillbench.api.sampler import Sampler
from distillbench.api.samplers import from_recipe
from distillbench.core.schedules import flow_grid, lcm_times
from distillbench.sample.generate import generate_images
from distillbench.student.diffusers import export_student
from distillbench.student.files import Student, load_student
from distillbench.student.schedulers import follow
from distillbench.student.trial import TrialTeacher

Build = Callable[..., Any]
TIMES = [999, 749, 499, 249]
UNEVEN = [999, 856, 665, 399]
FLOWING = [1000, 900, 750, 500]
REAL = lcm_times(4, flow_grid(50, 3.0))  # LCM's and TCD's of a flow teacher
SAMPLERS: dict[str, dict[str, Any]] = {
    "ddim": {"kind": "ode", "solver": "ddim"},
    "ddim, uneven": {"kind": "ode", "solver": "ddim", "timesteps": UNEVEN},
    "ddim, clean": {"kind": "ode", "solver": "ddim", "end": "clean"},
    "euler": {"kind": "ode", "solver": "euler", "guidance_scale": 2.0},
    "dpmsolver++": {"kind": "ode", "solver": "dpmsolver++"},
    "dpmsolver++2s": {"kind": "ode", "solver": "dpmsolver++2s"},
    "renoise": {"kind": "renoise", "timesteps": UNEVEN},
    "renoise, boundary": {"kind": "renoise", "boundary": True},
    "gamma 0": {"kind": "gamma", "gamma": 0.0},
    "gamma 0.3": {"kind": "gamma", "gamma": 0.3},
    "gamma 1": {"kind": "gamma", "gamma": 1.0},
    "gamma, second order": {"kind": "gamma", "gamma": 0.3, "order": 2},
}
SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
TEACHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "DDIM": ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}),
    "DDIM, clipping": ("DDIMScheduler", {"clip_sample": True, "clip_sample_range": 0.1}),
    "DDIM, thresholding": ("DDIMScheduler", {"thresholding": True}),
    "DDIM, zero SNR": ("DDIMScheduler", {"rescale_betas_zero_snr": True,
                                         "timestep_spacing": "trailing"}),
    "PNDM": ("PNDMScheduler", {"skip_prk_steps": True, "steps_offset": 1}),
    "DDPM": ("DDPMScheduler", {"variance_type": "fixed_large", "clip_sample": True}),
    "DPM, Karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "DPM, SDE": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++",
                                                 "solver_order": 3}),
    "DPM, thresholding": ("DPMSolverMultistepScheduler", {"thresholding": True,
                                                          "solver_type": "heun"}),
    "DPM, noise": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver",
                                                   "final_sigmas_type": "sigma_min"}),
    "DPM, single": ("DPMSolverSinglestepScheduler", {"solver_order": 3, "use_karras_sigmas": True}),
    "Euler": ("EulerDiscreteScheduler", {"use_karras_sigmas": True, "steps_offset": 1}),
    "Euler, zero SNR": ("EulerDiscreteScheduler", {"rescale_betas_zero_snr": True,
                                                   "timestep_spacing": "trailing"}),
    "Euler ancestral": ("EulerAncestralDiscreteScheduler", {"timestep_spacing": "leading"}),
    "LMS": ("LMSDiscreteScheduler", {"steps_offset": 1}),
    "Heun": ("HeunDiscreteScheduler", {"clip_sample": True}),
    "UniPC": ("UniPCMultistepScheduler", {"solver_order": 3, "thresholding": True}),
    "DEIS": ("DEISMultistepScheduler", {"use_karras_sigmas": True}),
    "LCM": ("LCMScheduler", {"original_inference_steps": 100, "timestep_scaling": 1.0}),
    "linear betas": ("DDIMScheduler", {"beta_schedule": "linear", "beta_start": 1e-4,
                                       "beta_end": 0.02}),
    "given betas": ("DDIMScheduler", {"trained_betas": np.linspace(1e-4, 0.02, 1000).tolist()}),
}  # fmt: skip
# What no scheduler of diffusers does; anything else must be followed.
UNFOLLOWED = {
    "gamma, second order": "sampler.order",
    "gamma 1": "sampler.solver",  # where the process ends at the data
    "dpmsolver++": "sampler.solver",  # where the first time has no signal
}


def grey_levels(theirs: Any, ours: torch.Tensor) -> int:
    """The greatest difference of two pictures or clips of uint8."""
    return int(np.abs(np.asarray(theirs).astype(int) - ours.numpy().astype(int)).max())


# ---- whole pipelines -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "kind", "extent"),
    [("sd", "lora", "pipeline"), ("sd", "lora", "network"), ("sdxl", "copy", "pipeline"),
     ("pixart", "lora", "pipeline")],
)  # fmt: skip
def test_a_whole_pipeline_draws_our_picture(
    family: str, kind: str, extent: Any, finish: Callable[..., Any], tmp_path: Path,
    same_noise: Callable[[Any, int], None], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    sampler = {"kind": "ode", "timesteps": UNEVEN, "guidance_scale": 2.0}
    run = finish(family, kind, sampler, **({"rank": 4, "alpha": 8.0} if kind == "lora" else {}))
    files = export_student(run.root, tmp_path / "out", extent=extent)
    assert ((tmp_path / "out/model_index.json") in files) == (extent == "pipeline")
    assert not any(path.name.startswith("pytorch_lora") for path in files)
    same_noise(run.backbone, 1)
    theirs = run_readme(tmp_path / "out", monkeypatch)
    student = load_student(run.root)
    ours = generate_images(student, ["a red car"], sampler=from_recipe(sampler))[0]
    assert grey_levels(theirs, ours) <= 1


# ---- the README -----------------------------------------------------------------------------


def snippet(folder: Path) -> str:
    found = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)
    assert found is not None
    return found[1]


def run_readme(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the code of an export's README draws, run in its folder as it says."""
    monkeypatch.chdir(folder)
    space: dict[str, Any] = {}
    exec(compile(snippet(folder), "README.md", "exec"), space)
    return space["samples"][0]


@pytest.mark.parametrize(
    ("family", "kind", "sampler"),
    [
        ("sd", "lora", {"kind": "gamma", "gamma": 0.3, "timesteps": TIMES}),
        ("sd", "copy", {"kind": "renoise", "timesteps": TIMES, "boundary": True}),
        ("sd", "lora", {"kind": "ode", "timesteps": UNEVEN, "guidance_scale": 3.0}),
        ("sdxl", "lora", {"kind": "ode", "timesteps": TIMES, "guidance_scale": 2.0}),
        ("sdxl", "copy", {"kind": "gamma", "gamma": 0.5, "timesteps": TIMES}),
        ("sd3", "lora", {"kind": "ode", "timesteps": FLOWING, "guidance_scale": 2.0}),
        ("sd3", "copy", {"kind": "renoise", "timesteps": [1000, 899, 500, 111]}),
        ("sd3", "lora", {"kind": "renoise", "timesteps": REAL, "boundary": True}),
        ("sd3", "copy", {"kind": "gamma", "timesteps": REAL, "gamma": 1.0}),
        ("pixart", "lora", {"kind": "renoise", "timesteps": TIMES, "guidance_scale": 2.0}),
        ("pixart", "copy", {"kind": "ode", "solver": "dpmsolver++", "timesteps": TIMES}),
        ("cogvideox", "lora", {"kind": "ode", "timesteps": UNEVEN, "guidance_scale": 2.0}),
        ("cogvideox", "copy", {"kind": "renoise", "timesteps": UNEVEN}),
    ],
)
def test_the_readme_draws_our_picture(
    family: str, kind: str, sampler: dict[str, Any], finish: Callable[..., Any], tmp_path: Path,
    same_noise: Callable[[Any, int], None], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    run = finish(family, kind, sampler, **({"rank": 4, "alpha": 8.0} if kind == "lora" else {}))
    export_student(run.root, tmp_path / "out")
    recipe = json.loads((tmp_path / "out" / "recipe.json").read_text())
    assert recipe["diffusers_ignores"] == []
    same_noise(run.backbone, 1)
    theirs = run_readme(tmp_path / "out", monkeypatch)
    frames = theirs if isinstance(theirs, list) else [theirs]
    student = load_student(run.root)
    ours = generate_images(student, ["a red car"], sampler=from_recipe(sampler))[0]
    assert int(ours.max()) - int(ours.min()) > 20  # a picture, not a flat field
    ours = ours if ours.ndim == 4 else ours[None]
    assert grey_levels(np.stack([np.asarray(f) for f in frames]), ours) <= 1


@pytest.mark.parametrize("kind", ["lora", "copy"])
@pytest.mark.parametrize("family", ["sd", "sdxl", "sd3", "pixart", "cogvideox"])
def test_the_readme_of_a_student_in_half_precision_runs(
    family: str, kind: str, finish: Callable[..., Any], tmp_path: Path,
    same_noise: Callable[[Any, int], None], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    sampler = {"kind": "ode", "timesteps": FLOWING if family == "sd3" else TIMES}
    run = finish(family, kind, sampler)
    record = json.loads((run.root / "recipe.json").read_text())
    (run.root / "recipe.json").write_text(json.dumps({**record, "precision": "bfloat16"}))
    export_student(run.root, tmp_path / "out")
    same_noise(run.backbone, 1)
    theirs = run_readme(tmp_path / "out", monkeypatch)
    frames = theirs if isinstance(theirs, list) else [theirs]
    ours = generate_images(load_student(run.root), ["a red car"], sampler=from_recipe(sampler))
    drawn = np.stack([np.asarray(f) for f in frames]).astype(float)
    away = drawn - ours.reshape(-1, *ours.shape[-3:]).numpy()
    assert np.abs(away).mean() < 4


@pytest.mark.parametrize("kind", ["lora", "copy"])
def test_an_adapter_on_a_trained_teacher_draws_alike(
    kind: str, build: Build, trained: Callable[..., Any], tmp_path: Path,
    same_noise: Callable[[Any, int], None], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from distillbench.student.files import replace_teacher_by_run

    sampler = {"kind": "gamma", "gamma": 0.3, "timesteps": TIMES}
    trained(build("sd"), tmp_path / "tuned", kind, {"rank": 2} if kind == "lora" else {}, sampler)
    backbone = build("sd")
    replace_teacher_by_run(backbone, tmp_path / "tuned")
    run = trained(backbone, tmp_path / "run", "lora", {"rank": 4}, sampler, teacher="tuned")
    export_student(run.root, tmp_path / "out")
    same_noise(run.backbone, 1)
    theirs = run_readme(tmp_path / "out", monkeypatch)
    student = load_student(run.root)
    ours = generate_images(student, ["a red car"], sampler=from_recipe(sampler))
    assert grey_levels(theirs, ours[0]) <= 1


def test_an_embedded_guidance_scale_draws_alike(
    finish: Callable[..., Any], tmp_path: Path, same_noise: Callable[[Any, int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    sampler = {"kind": "renoise", "timesteps": TIMES, "boundary": True, "embed_scale": 7.5}
    run = finish("sd", "copy", sampler, conditions=("guidance",))
    export_student(run.root, tmp_path / "out")
    recipe = json.loads((tmp_path / "out" / "recipe.json").read_text())
    assert (recipe["diffusers_ignores"], recipe["call"]["guidance_scale"]) == ([], 7.5)
    same_noise(run.backbone, 1)
    theirs = run_readme(tmp_path / "out", monkeypatch)
    student = Student(SimpleNamespace(backbone=run.backbone), run.net)  # type: ignore[arg-type]
    ours = generate_images(student, ["a red car"], sampler=from_recipe(sampler))
    assert grey_levels(theirs, ours[0]) <= 1


@pytest.mark.parametrize("kind", ["lora", "copy"])
@pytest.mark.parametrize("family", ["sd", "sdxl", "sd3", "pixart", "cogvideox"])
def test_scalar_inputs_become_a_part_of_the_network(
    family: str, kind: str, finish: Callable[..., Any], tmp_path: Path,
    same_noise: Callable[[Any, int], None], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The number of steps and an embedded scale are constants of a recipe."""
    times = FLOWING if family == "sd3" else TIMES
    sampler = {"kind": "ode", "timesteps": times, "steps_k": 4, "embed_scale": 5.0}
    run = finish(family, kind, sampler, conditions=("guidance", "steps_k"))
    export_student(run.root, tmp_path / "out")
    recipe = json.loads((tmp_path / "out" / "recipe.json").read_text())
    assert recipe["diffusers_ignores"] == []
    unet = {"steps_k": 4.0}
    assert recipe["fixed"] == (unet if "sd" in family[:2] and family != "sd3" else
                               {"guidance": 5.0, **unet})  # fmt: skip
    same_noise(run.backbone, 1)
    theirs = run_readme(tmp_path / "out", monkeypatch)
    frames = theirs if isinstance(theirs, list) else [theirs]
    drawn = np.stack([np.asarray(f) for f in frames])
    student = load_student(run.root)
    ours, other = (
        generate_images(Student(SimpleNamespace(backbone=student.method.backbone), student.net),  # type: ignore[arg-type]
                        ["a red car"], sampler=from_recipe({**sampler, "steps_k": k}))
        for k in (4, 1)
    )  # fmt: skip
    assert grey_levels(drawn, ours.reshape(-1, *ours.shape[-3:])) <= 1
    assert grey_levels(drawn, other.reshape(-1, *ours.shape[-3:])) > 1


def test_a_fused_adapter_draws_as_the_loaded_one(
    finish: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """alpha / rank is in the file: fusing it into the weights is the same network."""
    run = finish("sd", "lora", {"kind": "ode", "timesteps": TIMES}, rank=4, alpha=12.0)
    export_student(run.root, tmp_path / "out")
    monkeypatch.chdir(tmp_path / "out")
    space: dict[str, Any] = {}
    exec(snippet(tmp_path / "out"), space)
    pipe, call = space["pipe"], space["recipe"]["call"]
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    fused = pipe("a red car", generator=torch.Generator().manual_seed(0), **call).images[0]
    assert grey_levels(fused, torch.from_numpy(np.asarray(space["samples"][0]).copy())) <= 1


# ---- the matrix -------------------------------------------------------------------------------


def carrying(backbone: Any, name: str, prediction: str, patch: pytest.MonkeyPatch) -> TrialTeacher:
    """The backbone with another scheduler, as a folder that carries it would load."""
    from distillbench.backbones._diffusers import process_of

    kind, settings = TEACHERS[name]
    known = signature(getattr(diffusers, kind).__init__).parameters
    usual = {n: p.default for n, p in known.items() if n not in ("self", "kwargs")}
    config = {**usual, **SD, "prediction_type": prediction, **settings}
    patch.setattr(backbone, "process", process_of(config))
    patch.setattr(backbone, "prediction_type", prediction)
    return TrialTeacher(backbone.process, prediction, config)


def cases() -> Iterator[tuple[str, str]]:
    for name, (_, settings) in TEACHERS.items():
        for prediction in ("epsilon", "v_prediction"):
            if prediction == "v_prediction" or not settings.get("rescale_betas_zero_snr"):
                yield name, prediction


def their_picture(backbone: Any, followed: Any, sampler: Sampler, prompts: list[str]) -> Any:
    """Stock pipeline, exported scheduler, and the call of recipe.json."""
    stored = json.loads(json.dumps(dict(followed.scheduler.config)))
    scheduler = type(followed.scheduler).from_config(stored)
    pipe = type(backbone.pipe)(**{**backbone.pipe.components, "scheduler": scheduler,
                                  **dict(getattr(backbone, "load_options", {}))})  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    call: Mapping[str, Any] = {**followed.times, "guidance_scale": sampler.guidance_scale,
                               **backbone.call_arguments()}  # fmt: skip
    eta = {} if backbone.name == "sd3" else {"eta": getattr(sampler, "gamma", 0.0)}
    images = pipe(prompts, output_type="np", **call, **eta).images
    return (images * 255).round()


@pytest.mark.parametrize(("name", "prediction"), list(cases()))
def test_every_sampler_on_every_stock_scheduler(
    name: str, prediction: str, ready: Build, same_noise: Callable[[Any, int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    backbone, prompts = ready("sd"), ["a red car", "a blue boat"]
    teacher = carrying(backbone, name, prediction, monkeypatch)
    student = Student(SimpleNamespace(backbone=backbone), None)  # type: ignore[arg-type]
    recipes = {n: from_recipe({"timesteps": TIMES, **s}) for n, s in SAMPLERS.items()}
    for label, followed in {n: follow(s, teacher) for n, s in recipes.items()}.items():
        sampler = recipes[label]
        assert not followed.scheduler.config.get("thresholding")
        if followed.limits:
            assert list(followed.limits) == [UNFOLLOWED[label]], label
            continue
        same_noise(backbone, len(prompts))
        theirs = their_picture(backbone, followed, sampler, prompts)
        ours = generate_images(student, prompts, sampler=sampler)
        assert grey_levels(theirs, ours) <= 1, (label, followed.scheduler)


@pytest.mark.parametrize("shift", [1.0, 3.0, 6.0])
@pytest.mark.parametrize("leak", [{}, {"use_karras_sigmas": True}, {"stochastic_sampling": True}])
def test_every_sampler_on_flow(
    shift: float, leak: dict[str, Any], ready: Build, same_noise: Callable[[Any, int], None]
) -> None:
    backbone, prompts = ready("sd3"), ["a red car", "a blue boat"]
    student = Student(SimpleNamespace(backbone=backbone), None)  # type: ignore[arg-type]
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift, **leak)
    teacher = TrialTeacher(backbone.process, "flow", dict(scheduler.config))
    uneven = {"kind": "ode", "timesteps": [1000, 899, 500, 111]}
    given = {n: {**s, "timesteps": FLOWING} for n, s in SAMPLERS.items()} | {"uneven": uneven}
    recipes = {n: from_recipe(s) for n, s in given.items()}
    for label, followed in {n: follow(s, teacher) for n, s in recipes.items()}.items():
        sampler = recipes[label]
        if followed.limits:
            assert label in ("gamma 0.3", "dpmsolver++", "gamma, second order"), label
            continue
        same_noise(backbone, len(prompts))
        theirs = their_picture(backbone, followed, sampler, prompts)
        ours = generate_images(student, prompts, sampler=sampler)
        assert grey_levels(theirs, ours) <= 1, (label, followed.scheduler)


def test_a_copied_scheduler_would_have_drawn_another_picture(
    ready: Build, same_noise: Callable[[Any, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The matrix can see a leak: the teacher's own settings move pixels."""
    backbone = ready("sd")
    teacher = carrying(backbone, "DPM, thresholding", "epsilon", monkeypatch)
    student = Student(SimpleNamespace(backbone=backbone), None)  # type: ignore[arg-type]
    sampler = from_recipe({"timesteps": TIMES, **SAMPLERS["dpmsolver++"]})
    copied = diffusers.DPMSolverMultistepScheduler.from_config(dict(teacher.config))
    wrong = SimpleNamespace(scheduler=copied, times={"num_inference_steps": 4})
    same_noise(backbone, 1)
    theirs = their_picture(backbone, wrong, sampler, ["a red car"])
    assert grey_levels(theirs, generate_images(student, ["a red car"], sampler=sampler)) > 8
