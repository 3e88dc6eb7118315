"""Every checkpoint of the catalogue, as a small file of its own format, against stock diffusers."""

from __future__ import annotations

from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

import diffusers as stock
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from distillbench.api import registry
from distillbench.api.checkpoints import checkpoints
from distillbench.core.noise import sample_noise
from distillbench.sample.generate import generate_images

HELPERS = str(Path(__file__).with_name("published.py"))
made: Any = SourceFileLoader("published", HELPERS).load_module()
PROMPTS = ["a red car", "a blue boat"]
LCM = {1: (999,), 2: (999, 499), 4: (999, 759, 499, 259),
       8: (999, 879, 759, 639, 499, 379, 259, 139)}  # fmt: skip
TRAILING = {1: (999,), 2: (999, 499), 4: (999, 749, 499, 249),
            8: (999, 874, 749, 624, 499, 374, 249, 124),
            12: (999, 916, 832, 749, 666, 582, 499, 416, 332, 249, 166, 82)}  # fmt: skip
# What recipes and cards say the times are, by the beginning of the name; the longest counts.
TIMES: dict[str, dict[int, tuple[int, ...]]] = {
    "lcm-": LCM, "tcd-": LCM, "hyper-": TRAILING, "hyper-sd15-1step": LCM,
    "hyper-sdxl-1step": LCM, "hyper-sdxl-1step-unet": {1: (800,)}, "sdxl-": TRAILING,
    "perflow-": {4: (1000, 750, 500, 250), 6: (1000, 875, 750, 625, 500, 250),
                 8: (1000, 875, 750, 625, 500, 375, 250, 125)},
    "instaflow-": {1: (1000,)}, "yoso-pixart": LCM,
    "yoso-sd15-lora": {2: (999, 499)}, "dmd2-sdxl-4step": {4: (999, 749, 499, 249)},
    "dmd2-sdxl-1step": {1: (399,)}, "tdm-dreamshaper": {4: (999, 749, 500, 250)},
    "tdm-sd3": {4: (999, 947, 856, 666)}, "tdm-cogvideox-2b": {4: (999, 856, 665, 399)},
}  # fmt: skip
RELEASED = {name: entry for name, entry in checkpoints().items() if not entry.unpublished}


def times_of(name: str) -> dict[int, tuple[int, ...]]:
    return TIMES[max((start for start in TIMES if name.startswith(start)), key=len)]


@pytest.mark.parametrize("name", RELEASED)
def test_times_are_those_of_the_card(name: str) -> None:
    """Nothing is loaded; the weights need not be there."""
    entry = RELEASED[name]
    backbone = registry.build_backbone(entry.backbone, {})
    params = {"recipe": name}
    method = registry.build_method("pretrained", params, backbone)
    for nfe in entry.nfe:
        recipe = method.sampler(nfe)
        assert recipe.nfe == nfe
        assert recipe.timesteps == times_of(name)[nfe]
    assert entry.sources
    assert entry.mark in ("read", "recalled", "run", "checked")


def test_unreleased_rows_say_so() -> None:
    gone = {name for name, entry in checkpoints().items() if entry.unpublished}
    assert gone == {"dmd2-sd15-4step", "tdm-sdxl", "tdm-pixart", "tdm-unify-sd15"}
    backbone = registry.build_backbone("sd", {})
    with pytest.raises(Exception, match="never released"):
        registry.build_method("pretrained", {"recipe": "tdm-sdxl"}, backbone)


# ---- pictures -------------------------------------------------------------------------------


def weights_of(name: str, base: Path, folder: Path) -> tuple[Path, Any]:
    """A file of the checkpoint's format, and the network that stock diffusers should have."""
    params, part = RELEASED[name].params, "unet" if (base / "unet").is_dir() else "transformer"
    kind = {"unet": stock.UNet2DConditionModel, "transformer": None}[part]
    if kind is None:
        config = stock.DiffusionPipeline.load_config(base)
        kind = getattr(stock, config[part][1])
    module = kind.from_pretrained(base / part)
    rng = torch.Generator().manual_seed(7)
    if params["kind"] == "lora":
        linear = part == "transformer"
        layers = {n: (d / 5, u / 5, a) for n, (d, u, a) in
                  made.layers_of(module, every_linear=linear).items()}  # fmt: skip
        state = made.diffusers(layers, part) if linear else made.kohya(layers)
        path = folder / Path(params["weights"].split(":")[-1]).name
        path = path if path.suffix else path / "pytorch_lora_weights.safetensors"
        path.parent.mkdir(exist_ok=True)
        (save_file if path.suffix == ".safetensors" else torch.save)(state, path)
        module.load_state_dict(made.merged(module, layers, params.get("scale", 1.0)))
        return path, module
    change = {k: 0.05 * torch.randn(v.shape, generator=rng) for k, v in module.state_dict().items()}
    moved = {k: v + change[k] for k, v in module.state_dict().items()}
    if params["kind"] == "pipeline":
        return _pipeline(name, base, folder, moved)
    path = folder / Path(params["weights"].split(":")[-1]).name
    state = change if params["kind"] == "delta" else moved
    if path.suffix == ".bin":
        state = {k: v.half() for k, v in state.items()}
        moved = {k: v.half().float() for k, v in moved.items()}
    module.load_state_dict(moved)
    if not path.suffix:
        module.save_pretrained(path)
    else:
        (save_file if path.suffix == ".safetensors" else torch.save)(state, path)
    return path, module


def _pipeline(name: str, base: Path, folder: Path, moved: Any) -> tuple[Path, Any]:
    pipe = stock.DiffusionPipeline.from_pretrained(base)
    embed = "guidance_embed" in RELEASED[name].params
    extra = {"time_cond_proj_dim": 256} if embed else {}
    network = type(pipe.unet).from_config({**pipe.unet.config, **extra})
    if embed:
        moved = {**moved, "time_embedding.cond_proj.weight": 0.1 * torch.randn(
            network.time_embedding.cond_proj.weight.shape)}  # fmt: skip
    network.load_state_dict(moved)
    pipe.unet = network
    pipe.save_pretrained(folder / "pipe", variant=RELEASED[name].params.get("variant"))
    return folder / "pipe", network


def scheduler_of(name: str, config: Any) -> Any:
    """The scheduler of the card; None where stock diffusers has none."""
    sampler = RELEASED[name].params["sampler"]
    trailing = {"timestep_spacing": "trailing"}
    config = {k: v for k, v in dict(config).items() if not k.startswith("_")}
    if RELEASED[name].backbone == "sd3":  # as Sana's is set
        flow = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 6.0}
        return stock.DPMSolverMultistepScheduler(**flow)
    if sampler["kind"] == "renoise":
        more = {"prediction_type": RELEASED[name].params.get("prediction", "epsilon")}
        return stock.LCMScheduler.from_config({**config, **more})
    if sampler["kind"] == "gamma":
        return stock.TCDScheduler.from_config(config)
    if sampler["kind"] == "euler":
        more = {"prediction_type": RELEASED[name].params.get("prediction", "epsilon"), **trailing}
        ancestral = stock.EulerAncestralDiscreteScheduler
        kind = ancestral if sampler.get("eta") else stock.EulerDiscreteScheduler
        return kind.from_config({**config, **more})
    if sampler.get("solver") == "dpmsolver++":
        config.pop("timestep_spacing", None)
        return stock.DPMSolverMultistepScheduler.from_config(config)
    return stock.DDIMScheduler.from_config({**config, **trailing})


STOCK = [
    name
    for name, entry in RELEASED.items()
    if entry.params["sampler"]["kind"] != "windows"
    and entry.params.get("prediction") != "velocity"
    and entry.backbone != "cogvideox"
]
SETTINGS: dict[str, dict[str, Any]] = {
    "sd3": {"text_length": 8}, "pixart": {"text_length": 8},
    "cogvideox": {"frames": 9, "height": 64, "width": 64},
}  # fmt: skip


@pytest.mark.parametrize("name", STOCK)
def test_pictures_are_those_of_the_card(
    name: str, folders: Callable[[str], Path], same_noise: Any, tmp_path: Path
) -> None:
    """Our row beside the stock pipeline with the card's scheduler, at all its evaluations.

    At most one grey level apart, at the times that the scheduler sets of its own accord.
    """
    entry = RELEASED[name]
    base = folders(entry.backbone)
    student, network = student_of(name, base, tmp_path)
    part = "unet" if hasattr(network, "down_blocks") else "transformer"
    kept = {part: network, **({"safety_checker": None} if entry.backbone == "sd" else {})}
    pipe = stock.DiffusionPipeline.from_pretrained(base, **kept)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = scheduler_of(name, pipe.scheduler.config)
    own = isinstance(entry.params["nodes"], str) or entry.backbone == "sd3"
    for nfe in entry.nfe:
        recipe = student.method.sampler(nfe)
        ours = generate_images(student, PROMPTS, sampler=recipe)
        given = {"num_inference_steps": nfe} if own else {"timesteps": list(recipe.timesteps)}
        same_noise(student.method.backbone, len(PROMPTS))
        scale = entry.params.get("guidance_embed", recipe.guidance_scale)
        extra = {"eta": recipe.gamma} if recipe.kind == "gamma" else {}
        theirs = pipe(
            PROMPTS, guidance_scale=scale, output_type="np", **given, **extra,
            **student.method.backbone.call_arguments(),
        ).images  # fmt: skip
        assert [round(t) for t in pipe.scheduler.timesteps.tolist()] == list(recipe.timesteps)
        away = np.abs(np.round(theirs * 255) - ours.numpy().astype(float)).max()
        assert away <= 1, f"nfe {nfe}: {away} grey levels"
        assert ours.float().std() > 5


def student_of(name: str, base: Path, folder: Path) -> tuple[Any, Any]:
    """The row of a file of the checkpoint's format, and the network that stock should have."""
    path, network = weights_of(name, base, folder)
    params = {"recipe": name, "weights": str(path), "sha256": ""}
    settings = {"model": str(base), **SETTINGS.get(RELEASED[name].backbone, {})}
    return made.adopted(folder / "run", RELEASED[name].backbone, settings, params), network


@pytest.mark.parametrize("name", [name for name in RELEASED if name not in STOCK])
def test_what_stock_has_no_scheduler_for_is_sampled(
    name: str, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    """Steps against the papers' own forms: tests/sample/test_stock_samplers.py."""
    entry = RELEASED[name]
    student, _ = student_of(name, folders(entry.backbone), tmp_path)
    plain = None
    for nfe in entry.nfe:
        made_here = generate_images(student, PROMPTS, sampler=student.method.sampler(nfe))
        assert made_here.shape[0] == len(PROMPTS)
        assert made_here.float().std() > 5
        assert plain is None or not torch.equal(plain, made_here)
        plain = made_here


def test_one_step_of_a_rectified_flow_is_the_noise_and_its_velocity(
    folders: Callable[[str], Path], tmp_path: Path
) -> None:
    """InstaFlow in one line, with stock networks: decode(x + v(x, 1000))."""
    student, network = student_of("instaflow-0.9b", folders("sd"), tmp_path)
    backbone = student.method.backbone
    ours = generate_images(student, PROMPTS, sampler=student.method.sampler(1)).numpy()
    pipe = stock.StableDiffusionPipeline.from_pretrained(folders("sd"), safety_checker=None)
    x = sample_noise(0, range(len(PROMPTS)), backbone.latent_shape, "start")
    with torch.no_grad():
        tokens = pipe.encode_prompt(PROMPTS, "cpu", 1, False)[0]
        x0 = x + network(x, 1000.0, encoder_hidden_states=tokens).sample
        decoded = pipe.vae.decode(x0 / pipe.vae.config.scaling_factor).sample
    theirs = pipe.image_processor.postprocess(decoded, output_type="np")
    assert np.abs(np.round(theirs * 255) - ours.astype(float)).max() <= 1
