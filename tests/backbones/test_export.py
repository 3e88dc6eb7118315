"""Exported students give diffusers the very outputs they give us."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from safetensors import safe_open
from safetensors.torch import load_file

from distillbench.api.samplers import OdeSampler
from distillbench.cli.export import export as cli_export
from distillbench.errors import BadInput, NotSupported
from distillbench.student import files as export
from distillbench.student.diffusers import export_student

Build = Callable[..., Any]
Finished = Any
RENOISE = {"kind": "renoise", "timesteps": [999], "guidance_scale": 1.0, "boundary": False}
SOLVER = {"kind": "ode", "solver": "dpmsolver++", "timesteps": [999, 499], "guidance_scale": 1.0}
FOUR = {"kind": "renoise", "timesteps": [999, 749, 499, 249]}
FLOW = {"kind": "ode", "timesteps": [1000, 900, 750, 500], "solver": "dpmsolver++"}
SHIFTED = {**SOLVER, "solver": "ddim", "timesteps": [899, 449]}
FAMILIES = ["sd", "sdxl", "sd3", "pixart", "cogvideox"]


@pytest.mark.parametrize("family", FAMILIES)
def test_adapter_comes_back(family: str, finish: Callable[..., Finished], build: Build,
                            tmp_path: Path) -> None:  # fmt: skip
    run = finish(family, rank=4, alpha=8.0)
    files = export_student(run.root, tmp_path / "out")
    other = build(family)
    module = getattr(other.pipe, other.network)
    assert not torch.allclose(run.call(module), run.raw(), atol=1e-3)
    plain = type(other)(other.config)
    plain.load()
    if family == "pixart":
        from peft import PeftModel

        loaded = PeftModel.from_pretrained(plain.pipe.transformer, str(tmp_path / "out"))
        module = loaded.base_model.model
    else:
        plain.pipe.load_lora_weights(str(tmp_path / "out"))
        module = getattr(plain.pipe, plain.network)
        with safe_open(tmp_path / "out" / "pytorch_lora_weights.safetensors", "pt") as file:
            stored = json.loads(file.metadata()["lora_adapter_metadata"])
        assert stored[f"{plain.network}.lora_alpha"] == 8.0
        assert stored[f"{plain.network}.r"] == 4
    torch.testing.assert_close(run.call(module), run.raw(), rtol=1e-4, atol=1e-5)
    assert tmp_path / "out" / "recipe.json" in files


@pytest.mark.parametrize("family", FAMILIES)
def test_copy_comes_back(family: str, finish: Callable[..., Finished], tmp_path: Path) -> None:
    run = finish(family, "copy")
    export_student(run.root, tmp_path / "out")
    kind = type(run.net.module)
    module = kind.from_pretrained(tmp_path / "out", subfolder=run.backbone.network)
    torch.testing.assert_close(run.call(module), run.raw(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_embedded_guidance_works_in_the_pipeline(
    family: str, finish: Callable[..., Finished], tmp_path: Path
) -> None:
    """diffusers' own pipeline with its LCMScheduler: one step is our x0 at the same scale."""
    from diffusers import LCMScheduler, UNet2DConditionModel

    sampler = {**RENOISE, "embed_scale": 7.5}
    run = finish(family, "copy", sampler, conditions=("guidance",))
    export_student(run.root, tmp_path / "out")
    unet = UNet2DConditionModel.from_pretrained(tmp_path / "out", subfolder="unet")
    assert unet.config.time_cond_proj_dim == 256
    recipe = json.loads((tmp_path / "out" / "recipe.json").read_text())
    assert (recipe["scheduler"], recipe["guidance_scale"]) == ("LCMScheduler", 7.5)
    pipe = type(run.backbone.pipe)(**{
        **run.backbone.pipe.components, "unet": unet,
        "scheduler": LCMScheduler.from_pretrained(tmp_path / "out", subfolder="scheduler"),
        **({"requires_safety_checker": False} if family == "sd" else {}),
    })  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    x, _, _ = run.inputs()
    theirs = pipe(
        "a red car", latents=x.clone(), timesteps=recipe["timesteps"],
        guidance_scale=recipe["guidance_scale"], output_type="latent", height=16, width=16,
    ).images  # fmt: skip
    ours = run.predict(embed_scale=torch.tensor([7.5])).x0
    torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-3 * float(ours.abs().max()))
    other = run.predict(embed_scale=torch.tensor([2.0])).x0
    assert not torch.allclose(ours, other, rtol=1e-2)


def test_conditions_diffusers_does_not_know_lie_beside(
    finish: Callable[..., Finished], tmp_path: Path
) -> None:
    run = finish("sd", rank=2, conditions=("steps_k",))
    export_student(run.root, tmp_path / "out")
    stored = load_file(tmp_path / "out" / "conditions.safetensors")
    assert stored.keys() == {n for n in run.net.tensors() if n.startswith("conditions.")}
    recipe = json.loads((tmp_path / "out" / "recipe.json").read_text())
    assert recipe["diffusers_ignores"] == ["conditions.safetensors"]


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        ({"kind": "ode", "solver": "ddim"}, "DDIMScheduler"),
        ({"kind": "ode", "solver": "dpmsolver++"}, "DPMSolverMultistepScheduler"),
        ({"kind": "gamma", "gamma": 0.3}, "TCDScheduler"),
    ],
)
def test_scheduler_follows_the_recipe(
    sampler: dict[str, Any], expected: str, finish: Callable[..., Finished], tmp_path: Path
) -> None:
    full = {"timesteps": [999, 749, 499, 249], "guidance_scale": 1.0, **sampler}
    run = finish("sd", "lora", full, rank=2)
    export_student(run.root, tmp_path / "out")
    config = json.loads((tmp_path / "out" / "scheduler" / "scheduler_config.json").read_text())
    assert config["_class_name"] == expected
    assert config["beta_schedule"] == "scaled_linear"


@pytest.mark.parametrize("told", ["call", "sigmas"])
def test_a_flow_student_samples_alike_in_its_pipeline(
    told: str, finish: Callable[..., Finished], tmp_path: Path
) -> None:
    """By the number of steps alone, and by the sigmas that stand for it."""
    sampler = {"kind": "ode", "timesteps": [1000, 900, 750, 500], "guidance_scale": 1.0}
    run = finish("sd3", "copy", {**sampler, "solver": "ddim"})
    export_student(run.root, tmp_path / "out")
    recipe = json.loads((tmp_path / "out" / "recipe.json").read_text())
    assert (recipe["scheduler"], recipe["diffusers_ignores"]) == (
        "FlowMatchEulerDiscreteScheduler", [],
    )  # fmt: skip
    assert recipe["call"]["num_inference_steps"] == 4
    network = SD3Transformer2DModel.from_pretrained(tmp_path / "out", subfolder="transformer")
    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(tmp_path / "out" / "scheduler")
    pipe = type(run.backbone.pipe)(**{
        **run.backbone.pipe.components, "transformer": network, "scheduler": scheduler
    })  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    x, _, cond = run.inputs()
    call = dict(recipe["call"])
    if told == "sigmas":
        call["sigmas"] = recipe["sigmas"]
        del call["num_inference_steps"]
    theirs = pipe("a red car", latents=x.clone(), output_type="latent", **call).images
    assert scheduler.timesteps.tolist() == pytest.approx([1000, 900, 750, 500], abs=1e-2)
    sampler = OdeSampler(timesteps=(1000, 900, 750, 500))
    with torch.no_grad():
        ours = sampler.sample(
            lambda x, t, **_: run.backbone.predict(run.net, x, t, cond), x, run.backbone.process,
            torch.zeros,
        )  # fmt: skip
    torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-3 * float(ours.abs().max()))


@pytest.mark.parametrize(
    ("family", "sampler", "expected", "ignored"),
    [
        ("sd3", {**RENOISE, "timesteps": [1000, 500]}, "FlowMatchLCMScheduler", []),
        ("sd3", FLOW, "FlowMatchEulerDiscreteScheduler", ["sampler.solver"]),
        ("sd3", {**FLOW, "kind": "gamma"}, "FlowMatchLCMScheduler", ["sampler.solver"]),
        ("cogvideox", FOUR, "LCMScheduler", []),
        ("cogvideox", {**SOLVER, "solver": "ddim"}, "CogVideoXDDIMScheduler", []),
        ("cogvideox", SHIFTED, "DPMSolverMultistepScheduler", []),
        ("sd", {**SOLVER, "solver": "ddim"}, "DDIMScheduler", []),
        ("sd", SHIFTED, "DPMSolverMultistepScheduler", []),
        (
            "sd",
            {**SOLVER, "guidance_scale": 0.5},
            "DPMSolverMultistepScheduler",
            ["sampler.guidance_scale"],
        ),
    ],
)
def test_the_scheduler_follows_the_recipe_or_its_limit_is_named(
    family: str, sampler: dict[str, Any], expected: str, ignored: list[str],
    finish: Callable[..., Finished], tmp_path: Path,
) -> None:  # fmt: skip
    if sampler["kind"] == "gamma":
        sampler = {k: v for k, v in sampler.items() if k != "solver"}
    run = finish(family, "lora", sampler, rank=2)
    export_student(run.root, tmp_path / "out")
    recipe = json.loads((tmp_path / "out" / "recipe.json").read_text())
    assert (recipe["scheduler"], recipe["diffusers_ignores"]) == (expected, ignored)
    assert list(recipe["limits"]) == ignored
    assert all(why in (tmp_path / "out" / "README.md").read_text()
               for why in recipe["limits"].values())  # fmt: skip
    config = json.loads((tmp_path / "out" / "scheduler" / "scheduler_config.json").read_text())
    assert config["_class_name"] == expected


@pytest.mark.parametrize(("end", "to_one"), [("clean", True), ("schedule", False)])
def test_the_end_of_the_trajectory_goes_along(
    end: str, to_one: bool, finish: Callable[..., Finished], tmp_path: Path
) -> None:
    run = finish("sd", "lora", {**SOLVER, "solver": "ddim", "end": end}, rank=2)
    export_student(run.root, tmp_path / "out")
    config = json.loads((tmp_path / "out" / "scheduler" / "scheduler_config.json").read_text())
    assert config["set_alpha_to_one"] == to_one


def test_a_second_order_jump_is_said_to_be_ignored(
    finish: Callable[..., Finished], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """TCDScheduler would sample a TCF(2) student by TCF(1), and nothing would fail."""
    sampler = {"kind": "gamma", "order": 2, "timesteps": [999, 499], "guidance_scale": 1.0}
    run = finish("sd", "lora", sampler, rank=2)
    cli_export(str(run.root), tmp_path / "out")
    recipe = json.loads((tmp_path / "out" / "recipe.json").read_text())
    assert recipe["diffusers_ignores"] == ["sampler.order"]
    assert "warning: diffusers does not follow sampler.order" in capsys.readouterr().err


def test_a_used_folder_is_refused(finish: Callable[..., Finished], tmp_path: Path) -> None:
    run = finish("sd", rank=2)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(BadInput, match="not empty"):
        export_student(run.root, tmp_path / "out")
    for under in (tmp_path / "out" / "mine.txt", tmp_path / "out" / "mine.txt" / "below"):
        with pytest.raises(BadInput, match=r"mine\.txt: not a folder"):
            export_student(run.root, under)
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


def test_a_failed_export_leaves_nothing(
    finish: Callable[..., Finished], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = finish("sd", rank=2)

    def fail(*_: Any, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("distillbench.student.diffusers.write_card", fail)
    (tmp_path / "there").mkdir()
    for out in ("there", "new"):
        with pytest.raises(KeyboardInterrupt):
            export_student(run.root, tmp_path / out)
    assert not list((tmp_path / "there").iterdir())
    assert not (tmp_path / "new").exists()


def test_points_have_no_diffusers_form(tmp_path: Path) -> None:
    from distillbench.testing.method import train, train_spec

    train(train_spec("tdm", {}, updates=1, batch_size=2), tmp_path)
    with pytest.raises(NotSupported, match="gmm"):
        export_student(tmp_path / "out", tmp_path / "exported")


@pytest.mark.parametrize("kind", ["lora", "copy"])
def test_an_adapter_on_a_trained_teacher_takes_it_along(
    kind: str, build: Build, trained: Callable[..., Finished], tmp_path: Path
) -> None:
    opts = {"rank": 2} if kind == "lora" else {}
    tuned = trained(build("sd"), tmp_path / "tuned", kind, opts, RENOISE)
    backbone = build("sd")
    export.replace_teacher_by_run(backbone, tmp_path / "tuned")
    run = trained(backbone, tmp_path / "run", "lora", {"rank": 4}, RENOISE, teacher="tuned")
    assert not torch.allclose(run.raw(), tuned.raw(), atol=1e-3)
    export_student(run.root, tmp_path / "out")
    whole = UNet2DConditionModel.from_pretrained(tmp_path / "out" / "unet")
    assert torch.allclose(run.call(whole), run.raw(), atol=1e-4)
    recipe = json.loads((tmp_path / "out" / "recipe.json").read_text())
    assert recipe["load_with"] == "from_pretrained, subfolder unet"
