"""A LoRA trained here, exported for other tools and read back as a row: the same pictures."""

from __future__ import annotations

from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

import diffusers as stock
import pytest
import torch
from safetensors.torch import load_file, save_file

from distillbench.api.samplers import from_recipe
from distillbench.errors import NotSupported
from distillbench.sample.generate import generate_images
from distillbench.student.diffusers import export_student
from distillbench.student.files import load_student

HELPERS = str(Path(__file__).with_name("published.py"))
made: Any = SourceFileLoader("published", HELPERS).load_module()
RECIPE = {"kind": "renoise", "timesteps": [999, 759, 499, 259], "boundary": True}


@pytest.mark.parametrize("form", ["diffusers", "kohya", "peft"])
@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_there_and_back(
    form: Any, family: str, finish: Callable[..., Any], folders: Any, tmp_path: Path
) -> None:
    run = finish(family, sampler=RECIPE, rank=4, alpha=2.0)
    export_student(run.root, tmp_path / "out", lora=form)
    params = {"weights": str(tmp_path / "out"), "sampler": {"kind": "renoise", "boundary": True},
              "nodes": "lcm"}  # fmt: skip
    theirs = made.adopted(tmp_path / "back", family, {"model": str(folders(family))}, params)
    recipe = from_recipe(RECIPE)
    assert theirs.method.sampler(4) == recipe
    prompts = ["a red car", "a blue boat"]
    ours = generate_images(load_student(run.root), prompts, sampler=recipe)
    assert bool((generate_images(theirs, prompts, sampler=recipe) == ours).all())


def test_kohyas_form_of_alphas_that_differ_is_read_by_diffusers(
    folders: Any, tmp_path: Path
) -> None:
    """Its own reader would drop them."""
    base = stock.UNet2DConditionModel.from_pretrained(folders("sd") / "unet")
    layers = made.layers_of(base)
    save_file(made.kohya(layers), tmp_path / "x.safetensors")
    params = {"weights": str(tmp_path / "x.safetensors")}
    student = made.adopted(tmp_path / "run", "sd", {"model": str(folders("sd"))}, params)
    export_student(tmp_path / "run", tmp_path / "out", lora="kohya")
    state = load_file(tmp_path / "out" / "pytorch_lora_weights.safetensors")
    assert len({float(v) for k, v in state.items() if k.endswith(".alpha")}) == 1
    pipe = stock.StableDiffusionPipeline.from_pretrained(folders("sd"), safety_checker=None)
    pipe.load_lora_weights(tmp_path / "out")
    backbone = student.method.backbone
    cond = backbone.encode(["a red car"])
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours = backbone.predict(student.net, x, torch.tensor([499]), cond).raw
        theirs = pipe.unet(x, 499, encoder_hidden_states=cond.tensors["tokens"]).sample
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_published_rows_of_every_sampler_are_exported(folders: Any, tmp_path: Path) -> None:
    """The scheduler follows, or the limit is named."""
    base = stock.UNet2DConditionModel.from_pretrained(folders("sd") / "unet")
    save_file(made.kohya(made.layers_of(base)), tmp_path / "x.safetensors")
    given = {"weights": str(tmp_path / "x.safetensors")}
    made.adopted(tmp_path / "run", "sd", {"model": str(folders("sd"))}, given)
    recipes = {
        "EulerDiscreteScheduler": {"kind": "euler", "timesteps": [999, 749, 499, 249]},
        "EulerAncestralDiscreteScheduler": {"kind": "euler", "timesteps": [999, 499], "eta": 1.0},
        "DDIMScheduler": {"kind": "windows", "timesteps": [1000, 750, 500, 250]},
    }
    for name, recipe in recipes.items():
        out = tmp_path / name
        export_student(tmp_path / "run", out, recipe=recipe)
        text = (out / "README.md").read_text()
        assert name in text
        assert ("None known" in text) == (name != "DDIMScheduler")


def test_forms_that_are_none(finish: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(NotSupported, match="whole network"):
        export_student(finish("sd", "copy").root, tmp_path / "out", lora="kohya")
    assert not (tmp_path / "out").exists()
