"""Settings of a pipeline's files: honoured as the library does, or refused at planning by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from distillbench.api import registry
from distillbench.api.backbone import Backbone
from distillbench.api.fields import split
from distillbench.backbones._diffusers import process_of
from distillbench.errors import MissingWeights, NotSupported, StageFailed

UNET = "diffusion_pytorch_model.safetensors"
SCHEDULER, NET = "scheduler/scheduler_config.json", "{net}/config.json"
VAE, TEXT, WORDS = "vae/config.json", "text_encoder/config.json", "tokenizer/tokenizer_config.json"
PARAMS: dict[str, dict[str, Any]] = {
    "sd3": {"text_length": 8}, "pixart": {"text_length": 8},
    "cogvideox": {"frames": 9, "height": 64, "width": 64},
}  # fmt: skip
NETWORKS = {"sd": "unet", "sdxl": "unet"}
ALL = ("sd", "sdxl", "sd3", "pixart", "cogvideox")
DELETED = object()


@pytest.fixture
def copy(folders: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """Family -> a folder of its random pipeline that may be altered."""
    return lambda family: shutil.copytree(folders(family), tmp_path / family)


def change(folder: Path, file: str, key: str, value: Any) -> None:
    path = folder / file
    config = json.loads(path.read_text())
    if value is DELETED:
        config.pop(key)
    else:
        config[key] = value
    path.write_text(json.dumps(config))


def backbone_of(family: str, folder: Path, **params: Any) -> Any:
    return registry.build_backbone(
        family, {"model": str(folder), **PARAMS.get(family, {}), **params}
    )


def ready(family: str, folder: Path, **params: Any) -> Any:
    backbone = backbone_of(family, folder, **params)
    assert backbone.problems() == []
    backbone.load()
    return backbone


@pytest.mark.parametrize("family", ALL)
def test_stock_pipelines_have_no_problems(family: str, folders: Callable[[str], Path]) -> None:
    assert backbone_of(family, folders(family)).problems() == []


REFUSED = [
    (("sd",), SCHEDULER, "_class_name", "EDMEulerScheduler", "EDMEulerScheduler"),
    (("sd", "sdxl", "pixart"), SCHEDULER, "sigma_data", 0.5, "EDM"),
    (("sd", "cogvideox"), SCHEDULER, "sigma_max", 80.0, "EDM"),
    (("sdxl",), SCHEDULER, "timestep_type", "continuous", "only \"discrete\""),
    (("sd", "pixart", "cogvideox"), SCHEDULER, "beta_schedule", "sigmoid", "squaredcos_cap_v2"),
    (("sd", "sdxl"), SCHEDULER, "beta_schedule", DELETED, "is missing"),
    (("sd",), SCHEDULER, "beta_start", 0.5, "above beta_end"),
    (("sd",), SCHEDULER, "beta_end", "0.012", "a number above 0 and below 1"),
    (("sd",), SCHEDULER, "trained_betas", [0.1, 0.2], "a list of 1000"),
    (("sd", "pixart"), SCHEDULER, "prediction_type", "flow_prediction", "v_prediction"),
    (("sd",), SCHEDULER, "snr_shift_scale", 3.0, "belongs to cogvideox"),
    (("cogvideox",), SCHEDULER, "snr_shift_scale", DELETED, "is missing"),
    (("sd", "sd3"), SCHEDULER, "num_train_timesteps", 500, "only 1000"),
    (("sd",), SCHEDULER, "thresholding", True, "only false"),
    (("sd3",), SCHEDULER, "use_dynamic_shifting", True, "one shift"),
    (("sd3",), SCHEDULER, "shift_terminal", 0.1, "only null"),
    (("sd3",), SCHEDULER, "shift", 1.0, "has shift 1, the default here is 3"),
    (("sd", "sdxl", "sd3", "pixart", "cogvideox"), NET, "in_channels", 9, "inpainting"),
    (("sd", "sdxl"), NET, "out_channels", 8, "learned variance"),
    (("sd3", "cogvideox"), NET, "out_channels", 8, "learned variance"),
    (("pixart",), NET, "out_channels", 12, "out_channels: 12"),
    (("sd", "sdxl"), NET, "time_cond_proj_dim", 256, "set `guidance_embed`"),
    (("sd",), NET, "class_embed_type", "timestep", "classes"),
    (("sd",), NET, "num_class_embeds", 10, "classes"),
    (("sd",), NET, "addition_embed_type", "text", "sdxl"),
    (("sd", "sdxl"), NET, "encoder_hid_dim_type", "image_proj", "images"),
    (("sd", "sdxl"), NET, "time_embedding_type", "fourier", "only \"positional\""),
    (("sd",), NET, "sample_size", [8, 8, 8], "a list of 2"),
    (("sd",), NET, "sample_size", None, "set `resolution`"),
    (("sd",), NET, "block_out_channels", [16, 16], "conv_in.weight has shape"),
    (("sd",), NET, "down_block_types", ["DownBlock2D"], "1 entries"),
    (("sd", "sd3", "pixart", "cogvideox"), NET, "new_condition", "pose", "not known here"),
    (("cogvideox",), NET, "patch_size_t", 2, "1.5"),
    (("cogvideox",), NET, "ofs_embed_dim", 512, "images"),
    (("sd", "sd3", "cogvideox"), VAE, "latents_mean", [0.0] * 4, "without latents_std"),
    (("sd",), VAE, "latents_std", [1.0, 2.0], "latents_std"),
    (("sdxl", "sd3", "cogvideox"), VAE, "scaling_factor", DELETED, "is missing"),
    (("sd",), VAE, "scaling_factor", 0, "a number above 0"),
    (("sd",), VAE, "in_channels", 4, "only 3"),
    (("sd",), TEXT, "hidden_size", 32, "unet cross_attention_dim is 16"),
    (("sd", "sdxl"), TEXT, "model_type", "bert", "clip_text_model"),
    (("pixart", "cogvideox"), TEXT, "d_model", 32, "do not belong together"),
    (("sd",), TEXT, "vocab_size", 11, "token_embedding.weight has shape [10, 16]"),
    (("sd", "sdxl", "sd3"), TEXT, "num_hidden_layers", 3, "its weights have 2 encoder.layers."),
    (("sd3", "pixart", "cogvideox"), NET, "num_layers", 9, "transformer_blocks."),
    (("sd", "sd3"), VAE, "layers_per_block", 2, "its weights have 1"),
    (("sd",), TEXT, "intermediate_size", 17, "mlp.fc1.weight has shape [16, 16]"),
    (("pixart", "cogvideox"), TEXT, "d_ff", 17, "wi.weight has shape"),
    (("sd",), WORDS, "model_max_length", 77, "more than the 8 positions"),
    (("sd",), WORDS, "model_max_length", DELETED, "is missing"),
    (("sdxl",), "model_index.json", "text_encoder_2", DELETED, "text_encoder_2 is missing"),
    (("sd3",), "model_index.json", "text_encoder_3", [None, None], "text_encoder_3 is missing"),
    (("sd",), "model_index.json", "vae", ["diffusers", "AutoencoderTiny"], "AutoencoderTiny"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("family", "file", "key", "value", "why"),
    [(family, *rest) for families, *rest in REFUSED for family in families],
)
def test_what_is_not_honoured_is_refused_at_planning(
    family: str, file: str, key: str, value: Any, why: str, copy: Callable[[str], Path]
) -> None:
    folder, file = copy(family), file.format(net=NETWORKS.get(family, "transformer"))
    change(folder, file, key, value)
    if value == "image_proj":
        change(folder, file, "encoder_hid_dim", 16)
    backbone = backbone_of(family, folder)
    problems = backbone.problems()
    assert any(why in line for line in problems), problems
    assert not any("\n" in line for line in problems)
    with pytest.raises(MissingWeights) as caught:
        backbone.load()
    assert "\n" not in caught.value.line


PUBLISHED = [
    ("sd", SCHEDULER, "prediction_type", DELETED),  # as SD-1.5 leaves it out
    ("sd", SCHEDULER, "skip_prk_steps", True),
    ("sd", SCHEDULER, "use_karras_sigmas", True),
    ("sd", VAE, "scaling_factor", DELETED),
    ("sd", NET, "attention_head_dim", [2, 2]),
    ("sd", WORDS, "unk_token", {"__type": "AddedToken", "content": "<unk>"}),
    ("sdxl", NET, "upcast_attention", None),
    ("pixart", SCHEDULER, "lambda_min_clipped", float("-inf")),
    ("pixart", SCHEDULER, "variance_type", "learned_range"),
    ("pixart", NET, "double_self_attention", False),
    ("pixart", NET, "out_channels", 8),
    ("cogvideox", VAE, "sample_size", 256),
    ("sd3", NET, "dual_attention_layers", [0, 1]),
]  # fmt: skip


@pytest.mark.parametrize(("family", "file", "key", "value"), PUBLISHED)
def test_what_published_files_say_is_accepted(
    family: str, file: str, key: str, value: Any, copy: Callable[[str], Path]
) -> None:
    folder = copy(family)
    change(folder, file.format(net=NETWORKS.get(family, "transformer")), key, value)
    assert backbone_of(family, folder).problems() == []


@pytest.mark.parametrize(
    ("family", "given"), [("sd", "pixart"), ("sd", "sdxl"), ("sdxl", "sd"), ("pixart", "cogvideox")]
)
def test_a_folder_of_another_family_names_it(
    family: str, given: str, folders: Callable[[str], Path]
) -> None:
    (problem,) = backbone_of(family, folders(given)).problems()
    assert problem.endswith(f"use backbone {given}")


def test_the_refiner_is_no_teacher(copy: Callable[[str], Path]) -> None:
    folder = copy("sdxl")
    change(folder, "model_index.json", "_class_name", "StableDiffusionXLImg2ImgPipeline")
    (problem,) = backbone_of("sdxl", folder).problems()
    assert "no backbone reads these" in problem


# ---- weights -------------------------------------------------------------------------------


def rename(file: Path, by: Callable[[str], str]) -> None:
    save_file({by(name): value for name, value in load_file(file).items()}, file)


def test_prefixed_keys_are_seen_in_the_header(copy: Callable[[str], Path]) -> None:
    folder = copy("sd")
    rename(folder / "unet" / UNET, lambda name: f"module.{name}")
    (problem,) = backbone_of("sd", folder).problems()
    first = "conv_in.weight, conv_out.weight, time_embedding.linear_1.weight"
    assert f"keys missing: {first}; keys not known: module.conv_in.bias" in problem
    assert "all begin with 'module.'" in problem


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
@pytest.mark.parametrize("what", ["missing", "not known"])
def test_no_network_is_loaded_partially(part: str, what: str, copy: Callable[[str], Path]) -> None:
    folder = copy("sd")
    file = folder / part / ("model.safetensors" if part == "text_encoder" else UNET)
    tensors = load_file(file)
    name = next(n for n in sorted(tensors) if "down" in n or "layers.1" in n)
    if what == "missing":
        del tensors[name]
    else:
        name = "added." + name
        tensors[name] = torch.zeros(1)
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(MissingWeights, match=f"keys {what}: {name}"):
        backbone_of("sd", folder).load()


def test_damaged_weights_are_seen_at_planning(copy: Callable[[str], Path]) -> None:
    folder = copy("sd")
    file = folder / "unet" / UNET
    file.write_bytes(file.read_bytes()[:-100])
    (problem,) = backbone_of("sd", folder).problems()
    assert "truncated" in problem
    file.write_bytes(b"x")
    assert "no whole safetensors file" in backbone_of("sd", folder).problems()[0]
    file.unlink()
    assert backbone_of("sd", folder).problems() == ["unet: no weights"]


def test_a_single_file_says_how_to_convert_it(folders: Callable[[str], Path]) -> None:
    file = folders("sd") / "unet" / UNET
    with pytest.raises(MissingWeights) as caught:
        backbone_of("sd", file).revision()
    assert "from_single_file" in caught.value.line


def raw(backbone: Backbone) -> torch.Tensor:
    x = torch.randn(1, *backbone.latent_shape, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        return backbone.predict(None, x, torch.tensor([499]), backbone.encode(["a car"])).raw


def test_sharded_and_pickled_weights_are_the_same_teacher(
    folders: Callable[[str], Path], tmp_path: Path
) -> None:
    wanted = raw(ready("sd", folders("sd")))
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(folders("sd"))
    pipe.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert (tmp_path / "shards" / "unet" / f"{UNET}.index.json").is_file()
    torch.testing.assert_close(raw(ready("sd", tmp_path / "shards")), wanted, rtol=1e-4, atol=1e-5)
    pipe.save_pretrained(tmp_path / "pickles", safe_serialization=False)
    torch.testing.assert_close(raw(ready("sd", tmp_path / "pickles")), wanted, rtol=1e-4, atol=1e-5)
    next((tmp_path / "shards" / "unet").glob("*-00002-of-*")).unlink()
    assert "which is not there" in backbone_of("sd", tmp_path / "shards").problems()[0]


def test_variants_of_the_weights(folders: Callable[[str], Path], tmp_path: Path) -> None:
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(
        folders("sd"), torch_dtype=torch.float16
    )
    pipe.save_pretrained(tmp_path / "half", variant="fp16")
    only = raw(ready("sd", tmp_path / "half"))
    assert torch.equal(raw(ready("sd", tmp_path / "half", variant="fp16")), only)
    assert not torch.equal(raw(ready("sd", folders("sd"))), only)
    both = shutil.copytree(folders("sd"), tmp_path / "both")
    shutil.copytree(tmp_path / "half", both, dirs_exist_ok=True)
    assert torch.equal(raw(ready("sd", both)), raw(ready("sd", folders("sd"))))
    assert torch.equal(raw(ready("sd", both, variant="fp16")), only)
    (problem,) = backbone_of("sd", folders("sd"), variant="bf16").problems()
    assert "no weights of variant 'bf16'" in problem


# ---- honoured values -----------------------------------------------------------------------


@pytest.mark.parametrize("family", ["sd", "sdxl", "cogvideox"])
def test_mean_and_deviation_of_latents(family: str, copy: Callable[[str], Path]) -> None:
    folder = copy(family)
    change(folder, VAE, "latents_mean", [0.5, -1.0, 2.0, 0.0])
    change(folder, VAE, "latents_std", [2.0, 0.5, 1.0, 4.0])
    backbone = ready(family, folder)
    scale, channel = backbone.codec.scale, 2 if family == "cogvideox" else 1
    x = torch.randn(1, *backbone.latent_shape)
    x = x.transpose(1, 2) if channel == 2 else x
    mean, std = torch.tensor([0.5, -1.0, 2.0, 0.0]), torch.tensor([2.0, 0.5, 1.0, 4.0])
    shape = (1, 4, *[1] * (x.ndim - 2))
    wanted = x * std.reshape(shape) / scale.factor + mean.reshape(shape)
    torch.testing.assert_close(scale.out(x), wanted)
    torch.testing.assert_close(scale.into(wanted), x)


def test_a_pair_of_sizes(copy: Callable[[str], Path]) -> None:
    folder = copy("sdxl")
    change(folder, "unet/config.json", "sample_size", [8, 12])
    backbone = ready("sdxl", folder)
    assert backbone.latent_shape == (4, 8, 12)
    assert backbone.encode(["a"]).tensors["time_ids"].tolist() == [[16, 24, 0, 0, 16, 24]]
    assert backbone.decode(torch.zeros(1, 4, 8, 12)).shape == (1, 16, 24, 3)


@pytest.mark.parametrize("family", ["sd", "sdxl", "sd3"])
def test_resolution_of_two_sides(family: str, folders: Callable[[str], Path]) -> None:
    backbone = ready(family, folders(family), resolution=[16, 12])
    assert backbone.latent_shape == (4, 8, 6)
    assert raw(backbone).shape == (1, 4, 8, 6)
    (hidden,) = backbone.features(
        None, torch.zeros(1, 4, 8, 6), torch.tensor([9]), backbone.encode(["a"]), ["mid"]
    )
    assert hidden.shape[-2:] == (4, 3)
    problems = backbone_of(family, folders(family), resolution=[16, 11]).problems()
    assert "no multiple of" in problems[0]


@pytest.mark.parametrize("name", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_betas_are_the_librarys(name: str) -> None:
    theirs = diffusers.DDIMScheduler(beta_schedule=name)
    ours = process_of(theirs.config).alphas ** 2
    torch.testing.assert_close(ours.float(), theirs.alphas_cumprod, rtol=2e-4, atol=1e-6)


def test_trained_betas_stand_for_all_three(copy: Callable[[str], Path]) -> None:
    folder, betas = copy("sd"), torch.linspace(1e-4, 0.015, 1000).tolist()
    for key in ("beta_start", "beta_end", "beta_schedule"):
        change(folder, SCHEDULER, key, DELETED)
    change(folder, SCHEDULER, "trained_betas", betas)
    backbone = ready("sd", folder)
    theirs = diffusers.DDIMScheduler(trained_betas=betas).alphas_cumprod
    torch.testing.assert_close(backbone.process.alphas.float() ** 2, theirs, rtol=2e-4, atol=1e-6)


def test_the_older_class_name_of_pixart(
    copy: Callable[[str], Path], folders: Callable[[str], Path]
) -> None:
    folder = copy("pixart")
    change(folder, "model_index.json", "transformer", ["diffusers", "Transformer2DModel"])
    change(folder, "transformer/config.json", "_class_name", "Transformer2DModel")
    change(folder, "transformer/config.json", "num_vector_embeds", None)
    assert torch.equal(raw(ready("pixart", folder)), raw(ready("pixart", folders("pixart"))))


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_embedded_guidance_is_that_of_the_pipeline(
    family: str, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    """An LCM UNet put back as a teacher answers as diffusers' pipeline lets it."""
    pipe = diffusers.DiffusionPipeline.from_pretrained(folders(family))
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel.from_config({**pipe.unet.config, "time_cond_proj_dim": 6})
    pipe.unet = unet.eval()
    pipe.save_pretrained(tmp_path / "lcm")
    backbone = ready(family, tmp_path / "lcm", guidance_embed=8.0)
    seen: list[torch.Tensor] = []
    pipe.unet.register_forward_pre_hook(
        lambda _, __, kwargs: seen.append(kwargs["timestep_cond"]), with_kwargs=True
    )
    noise = torch.randn(1, *backbone.latent_shape)
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe("a car", latents=noise.clone(), num_inference_steps=1, guidance_scale=8.0,
                  output_type="latent", height=16, width=16).images  # fmt: skip
    torch.testing.assert_close(backbone._own_guidance(noise)["timestep_cond"], seen[0])
    with torch.no_grad():
        got = backbone.predict(None, noise, torch.tensor([999]), backbone.encode(["a car"]))
    alpha, sigma = backbone.process.alpha_sigma(0, noise)
    torch.testing.assert_close(alpha * got.x0 + sigma * got.eps, theirs, rtol=1e-3, atol=1e-3)
    assert backbone.embeds_guidance
    with pytest.raises(NotSupported, match="guidance_embed already"):
        backbone.make_net("student", "lora", rank=2, conditions=("guidance",))
    other = backbone_of(family, folders(family), guidance_embed=8.0)
    assert "leave it out" in other.problems()[0]


def test_the_variant_is_in_keys_by_its_content_alone() -> None:
    told = registry.build_backbone("sd", {"model": "a/b", "guidance_embed": 8, "variant": "fp16"})
    parts = split(told.config)
    assert parts.decisive == {"resolution": None, "guidance_embed": 8}
    assert {"model", "revision", "variant"} <= parts.marked.keys()


# ---- values that are not finite -----------------------------------------------------------


def test_what_is_not_finite_is_never_a_picture(folders: Callable[[str], Path]) -> None:
    backbone = ready("sd", folders("sd"))
    x = torch.zeros(3, *backbone.latent_shape)
    x[1, 0, 2, 2] = float("nan")
    with pytest.raises(StageFailed, match="latents of sample 1 are not finite"):
        backbone.decode(x)
    backbone.pipe.vae.decoder.conv_out.bias.fill_(float("inf"))
    with pytest.raises(StageFailed, match="decoded pixels of sample 0 are not finite"):
        backbone.decode(torch.zeros(2, *backbone.latent_shape))
    backbone.pipe.vae.quant_conv.bias.fill_(float("nan"))
    with pytest.raises(StageFailed, match="latents of pictures of sample 0 are not finite"):
        backbone.encode_images(torch.zeros(2, 16, 16, 3, dtype=torch.uint8))
    backbone.pipe.text_encoder.get_parameter("final_layer_norm.bias").fill_(float("nan"))
    with pytest.raises(StageFailed, match=r"text conditions \(tokens\) of sample 0"):
        backbone.encode(["a car"])


def test_a_teacher_that_gives_no_number_stops_with_the_first_sample(
    copy: Callable[[str], Path],
) -> None:
    """Predictions of noise at zero terminal SNR: x0 is 0 / 0, which was drawn in black."""
    from distillbench.sample.generate import generate_images
    from distillbench.student.files import Student

    folder = copy("sd")
    change(folder, SCHEDULER, "rescale_betas_zero_snr", True)
    method = registry.build_method("teacher", {}, ready("sd", folder))
    with pytest.raises(StageFailed, match=r"sample 0 is not finite \(latents; prompt 'a car'"):
        generate_images(Student(method, None), ["a car", "a"], sampler=method.sampler(4))


def test_planning_refuses_at_the_place_of_the_model(
    copy: Callable[[str], Path], tmp_path: Path
) -> None:
    from distillbench.analysis.check import checked_plan
    from distillbench.errors import ConfigError
    from distillbench.experiment.load import load_experiment

    folder, file = copy("sd"), tmp_path / "x.yaml"
    change(folder, VAE, "latents_mean", [0.0] * 4)
    file.write_text(
        f"name: x\nbackbones: {{mine: {{use: sd, params: {{model: {folder}}}}}}}\n"
        "base: {backbone: mine, sample: {n: 2, prompts: world-eval}, nfe: 4}\n"
        "metrics: [clip]\ntables: [{name: t, columns: [label, clip]}]\n"
        "rows: [{label: Teacher, method: teacher}]\n"
    )
    with pytest.raises(ConfigError, match=r"x\.yaml:2:\d+: .*vae/config.json: latents_mean"):
        checked_plan(load_experiment(file))


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("tokenizer/tokenizer_config.json", {"pad_token": "<nowhere>"}),
        ("text_encoder/config.json", {"eos_token_id": None}),
    ],
)
def test_special_tokens_that_the_encoder_lacks_are_one_line(
    tmp_path: Path, file: str, change: dict[str, Any]
) -> None:
    from distillbench.world import weights

    folder = tmp_path / "T"
    shutil.copytree(weights.folder("tiny-sd"), folder)
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    backbone = registry.build_backbone("sd", {"model": str(folder)})

    def read() -> None:
        backbone.load()
        backbone.encode(["a large red star"])

    with pytest.raises((StageFailed, MissingWeights)) as caught:
        read()
    assert "\n" not in caught.value.line
