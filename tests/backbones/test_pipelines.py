"""The families on random checkpoints: reading x0 and eps, guidance, text, features, decoding."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import huggingface_hub
import pytest
import torch

from distillbench.api import registry
from distillbench.api.backbone import Backbone
from distillbench.api.samplers import OdeSampler
from distillbench.backbones import _diffusers as diffusers_module
from distillbench.backbones._parts import fetched
from distillbench.core.schedules import trailing
from distillbench.errors import BadInput, ConfigError, MissingWeights, NotSupported
from distillbench.files.source import Source, other_weights

PROMPTS = ["a red car", "blue boat"]


def inputs(backbone: Backbone) -> tuple[torch.Tensor, torch.Tensor, Any, Any]:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(2, *backbone.latent_shape, generator=rng)
    return x, torch.tensor([999, 399]), backbone.encode(PROMPTS), backbone.encode_null()


def network(backbone: Any) -> torch.nn.Module:
    return getattr(backbone.pipe, backbone.network)


def count_calls(module: torch.nn.Module) -> list[int]:
    calls: list[int] = []
    module.register_forward_pre_hook(
        lambda _, args, kwargs: calls.append(len(args[0] if args else kwargs["hidden_states"])),
        with_kwargs=True,
    )
    return calls


def test_prediction_is_consistent(shared: Backbone) -> None:
    x, t, cond, _ = inputs(shared)
    with torch.no_grad():
        got = shared.predict(None, x, t, cond)
    alpha, sigma = shared.process.alpha_sigma(t, x)
    for part in (got.x0, got.eps, got.raw):
        assert part.shape == x.shape
        assert part.dtype == torch.float32
    torch.testing.assert_close(alpha * got.x0 + sigma * got.eps, x, rtol=1e-4, atol=1e-4)
    expected = {
        "epsilon": got.eps, "v_prediction": alpha * got.eps - sigma * got.x0,
        "flow": got.eps - got.x0,
    }  # fmt: skip
    wanted = expected[shared.prediction_type]
    torch.testing.assert_close(got.raw, wanted, rtol=1e-4, atol=1e-4)


def test_guidance_is_one_call_and_equals_two(shared: Backbone) -> None:
    x, t, cond, uncond = inputs(shared)
    calls = count_calls(network(shared))
    scale = torch.tensor([7.5, 2.0])
    with torch.no_grad():
        both = shared.predict(None, x, t, cond, guidance_scale=scale, uncond=uncond)
        assert calls == [4]
        on = shared.predict(None, x, t, cond).raw
        off = shared.predict(None, x, t, uncond).raw
        assert calls == [4, 2, 2]
        single = shared.predict(None, x, t, cond, guidance_scale=7.5, uncond=uncond).raw
    wide = scale.reshape(-1, *[1] * (x.ndim - 1))
    assert not torch.allclose(on, off, atol=1e-3)
    torch.testing.assert_close(both.raw, off + wide * (on - off), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(single[0], both.raw[0], rtol=1e-5, atol=1e-5)


def test_guidance_needs_the_second_branch(ready: Callable[[str], Any]) -> None:
    backbone = ready("sd")
    x, t, cond, _ = inputs(backbone)
    with pytest.raises(NotSupported, match="uncond"):
        backbone.predict(None, x, t, cond, guidance_scale=2.0)


@pytest.mark.parametrize("family", ["sd", "sdxl", "pixart"])
def test_ddim_sampling_equals_the_pipeline(family: str, ready: Callable[[str], Any]) -> None:
    """Four guided DDIM steps of ours give the picture that diffusers' own pipeline gives."""
    backbone = ready(family)
    backbone.pipe.set_progress_bar_config(disable=True)
    noise = torch.randn(1, *backbone.latent_shape, generator=torch.Generator().manual_seed(1))
    extra = {"use_resolution_binning": False} if family == "pixart" else {}
    side = backbone.latent_shape[-1] * backbone.pipe.vae_scale_factor
    theirs = backbone.pipe(
        PROMPTS[0], latents=noise.clone(), num_inference_steps=4, guidance_scale=3.0,
        output_type="latent", height=side, width=side, **extra,
    ).images  # fmt: skip
    x, times = noise, trailing(4, 1000)
    with torch.no_grad():
        for t, after in zip(times, (*times[1:], backbone.process.final), strict=True):
            got = backbone.predict(
                None, x, torch.tensor([t]), backbone.encode(PROMPTS[:1]), guidance_scale=3.0,
                uncond=backbone.encode_null(),
            )  # fmt: skip
            alpha, sigma = backbone.process.alpha_sigma(after, x)
            x = alpha * got.x0 + sigma * got.eps
    torch.testing.assert_close(x, theirs, rtol=1e-3, atol=1e-3 * float(theirs.abs().max()))


def test_flow_sampling_equals_the_pipeline(ready: Callable[[str], Any]) -> None:
    """Four guided steps at our times, which the pipeline is given as sigmas before the shift."""
    backbone = ready("sd3")
    backbone.pipe.set_progress_bar_config(disable=True)
    noise = torch.randn(1, *backbone.latent_shape, generator=torch.Generator().manual_seed(1))
    theirs = backbone.pipe(
        PROMPTS[0], latents=noise.clone(), sigmas=[1.0, 0.75, 0.5, 0.25], guidance_scale=3.0,
        output_type="latent", height=16, width=16, max_sequence_length=8,
    ).images  # fmt: skip
    assert backbone.solver_times(4) == (1000, 900, 750, 500)
    ours = OdeSampler(timesteps=backbone.solver_times(4)).sample(
        lambda x, t, **_: backbone.predict(
            None, x, t, backbone.encode(PROMPTS[:1]), guidance_scale=3.0,
            uncond=backbone.encode_null(),
        ),
        noise, backbone.process, no_noise,
    )  # fmt: skip
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * float(theirs.abs().max()))


def no_noise(step: int) -> torch.Tensor:
    raise AssertionError("a deterministic sampler draws no noise")


def test_another_shift_is_not_overlooked(folders: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folders("sd3"), tmp_path / "copy")
    config = folder / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace('"shift": 3.0', '"shift": 1.0'))
    settings = {"model": str(folder), "text_length": 8}
    with pytest.raises(BadInput, match="has shift 1, the default here is 3"):
        registry.build_backbone("sd3", settings).load()
    backbone = registry.build_backbone("sd3", {**settings, "shift": 1.0})
    backbone.load()
    assert backbone.nodes(4) == (1000, 750, 500, 250)


def test_weights_of_another_process_are_refused(
    folders: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(folders("sd"), tmp_path / "copy")
    diffusers.FlowMatchEulerDiscreteScheduler().save_pretrained(folder / "scheduler")
    index = folder / "model_index.json"
    index.write_text(index.read_text().replace("DDIMS", "FlowMatchEulerDiscreteS"))
    with pytest.raises(BadInput, match="of a flow process, these networks are trained on vp"):
        registry.build_backbone("sd", {"model": str(folder)}).load()


@pytest.mark.parametrize("family", ["sd", "pixart", "cogvideox"])
def test_process_is_the_schedulers(family: str, ready: Callable[[str], Any]) -> None:
    backbone = ready(family)
    squared = backbone.process.alphas**2
    torch.testing.assert_close(squared.float(), backbone.pipe.scheduler.alphas_cumprod.float(),
                               rtol=1e-4, atol=1e-6)  # fmt: skip


def test_video_times_and_terminal_noise(ready: Callable[[str], Any]) -> None:
    backbone = ready("cogvideox")
    assert backbone.nodes(4) == (999, 856, 665, 399)
    assert backbone.prediction_type == "v_prediction"
    assert float(backbone.process.alphas[-1]) == 0.0
    assert backbone.latent_shape == (3, 4, 8, 8)


def test_clips_have_whole_latent_frames() -> None:
    with pytest.raises(ConfigError, match="8 k"):
        registry.build_backbone("cogvideox", {"frames": 5})


def test_flow_scheduler_is_read() -> None:
    from distillbench.backbones._diffusers import process_of

    config = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0).config
    assert process_of(config).kind == "flow"


@pytest.mark.parametrize(
    ("scheduler", "to_one", "end"),
    [
        ("DDIMScheduler", True, -1), ("DDIMScheduler", False, 0), ("PNDMScheduler", None, 0),
        ("DPMSolverMultistepScheduler", None, 0), ("EulerDiscreteScheduler", None, 0),
        ("CogVideoXDDIMScheduler", True, -1),
    ],
)  # fmt: skip
def test_a_process_ends_at_the_data_where_its_scheduler_says_so(
    scheduler: str, to_one: bool | None, end: int
) -> None:
    from distillbench.backbones._diffusers import process_of

    given = {} if to_one is None else {"set_alpha_to_one": to_one}
    assert process_of(getattr(diffusers, scheduler)(**given).config).final == end


def test_pixarts_own_scheduler_ends_at_time_zero(tmp_path: Path) -> None:
    """Its published folder has DPM-Solver's config, which says nothing of the end."""
    from distillbench.backbones._diffusers import process_of

    plain = diffusers.DPMSolverMultistepScheduler(
        beta_schedule="linear", beta_start=1e-4, beta_end=0.02
    )
    plain.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "scheduler_config.json").read_text())
    assert "set_alpha_to_one" not in config
    process, like = process_of(config), torch.ones(1, 4)
    assert process.final == 0
    tcd = diffusers.TCDScheduler.from_config(config)
    tcd.set_timesteps(4)
    for t in tcd.timesteps:  # eps = x = 1 throughout; the last step's end is what counts
        last = tcd.step(like, int(t), like, eta=0.0).prev_sample
    alpha, sigma = process.alpha_sigma(int(tcd.timesteps[-1]), like)
    end_alpha, end_sigma = process.alpha_sigma(process.final, like)
    assert torch.allclose(last, end_alpha * (like - sigma) / alpha + end_sigma, atol=1e-5)


def test_unknown_betas_are_refused() -> None:
    from distillbench.backbones._diffusers import process_of

    with pytest.raises(NotSupported, match="sigmoid"):
        process_of({"beta_schedule": "sigmoid"})


def test_xl_null_is_zeros_with_the_same_sizes(ready: Callable[[str], Any]) -> None:
    backbone = ready("sdxl")
    null, cond = backbone.encode_null(), backbone.encode(PROMPTS)
    assert null.tensors["tokens"].abs().max() == null.tensors["pooled"].abs().max() == 0
    assert null.tensors["time_ids"].tolist() == [[16.0, 16.0, 0.0, 0.0, 16.0, 16.0]]
    assert torch.equal(null.tensors["time_ids"], cond.tensors["time_ids"][:1])


def test_pixart_drops_the_variance(ready: Callable[[str], Any]) -> None:
    backbone = ready("pixart")
    x, t, cond, _ = inputs(backbone)
    seen: list[torch.Tensor] = []
    network(backbone).register_forward_hook(lambda m, a, out: seen.append(out[0]))
    with torch.no_grad():
        got = backbone.predict(None, x, t, cond)
    assert seen[0].shape[1] == 8
    assert torch.equal(got.raw, seen[0][:, :4])


def test_pixart_states_the_size_where_it_was_trained_with_it(build: Callable[..., Any]) -> None:
    backbone = build("pixart")
    x, _, cond, _ = inputs(backbone)
    added = backbone._arguments(x, cond.tensors)["added_cond_kwargs"]
    assert added == {"resolution": None, "aspect_ratio": None}
    network(backbone).use_additional_conditions = True
    added = backbone._arguments(x, cond.tensors)["added_cond_kwargs"]
    assert added["resolution"].tolist() == [[16.0, 16.0]] * 2
    assert added["aspect_ratio"].tolist() == [[1.0]] * 2


def test_text_on_disk_is_not_that_of_other_settings(build: Callable[..., Backbone]) -> None:
    short, long = build("pixart", text_length=8), build("pixart", text_length=6)
    lengths = [b.encode(PROMPTS).tensors["tokens"].shape[1] for b in (short, long)]
    assert lengths == [8, 6]


def test_costly_text_is_read_from_disk_the_second_time(
    build: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISTILLBENCH_CACHE", str(tmp_path))
    first = build("pixart").encode(PROMPTS)
    assert len(list(tmp_path.glob("text/*/*.safetensors"))) == 2
    second = build("pixart")
    second.pipe.text_encoder = None
    again = second.encode(PROMPTS[::-1])
    assert torch.equal(again.tensors["tokens"][0], first.tensors["tokens"][1])


def test_features_stop_after_the_last_layer(shared: Any) -> None:
    x, t, cond, _ = inputs(shared)
    module = network(shared)
    reached: list[str] = []
    last = module.conv_out if hasattr(module, "conv_out") else module.proj_out
    last.register_forward_hook(lambda *_: reached.append("end"))
    (hidden,) = shared.features(None, x, t, cond, ["mid"])
    assert hidden.ndim == 5 if shared.modality == "video" else hidden.ndim == 4
    assert hidden.shape[0] == 2
    assert not reached
    block = "down_blocks.0" if hasattr(module, "conv_out") else "transformer_blocks.0"
    middle, early = shared.features(None, x, t, cond, ["mid", block])
    assert torch.equal(middle, hidden)
    assert early.shape[0] == 2
    shared.predict(None, x, t, cond)
    assert reached == ["end"]


def test_features_carry_gradients_to_input_and_net(build: Callable[..., Any]) -> None:
    backbone = build("sd")
    x, t, cond, _ = inputs(backbone)
    fake = backbone.make_net("fake", rank=2)
    x.requires_grad_(True)
    with fake.active():
        backbone.features(fake, x, t, cond, ["mid"])[0].square().mean().backward()
    assert x.grad is not None
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in fake.parameters())


def test_unknown_layer_is_refused(ready: Callable[[str], Any]) -> None:
    backbone = ready("sd")
    x, t, cond, _ = inputs(backbone)
    with pytest.raises(NotSupported, match="no layer 'middle'"):
        backbone.features(None, x, t, cond, ["middle"])


@pytest.mark.parametrize("family", ["sd", "sdxl", "sd3", "pixart"])
def test_images_go_both_ways(family: str, ready: Callable[[str], Any]) -> None:
    backbone = ready(family)
    images = torch.randint(0, 256, (3, 16, 16, 3), dtype=torch.uint8)
    latents = backbone.encode_images(images)
    assert latents.shape == (3, *backbone.latent_shape)
    vae = backbone.pipe.vae
    with torch.no_grad():
        pixels = images.permute(0, 3, 1, 2) / 127.5 - 1
        scale, shift = vae.config.scaling_factor, vae.config.shift_factor or 0.0
        expected = (vae.encode(pixels).latent_dist.mean - shift) * scale
        picture = backbone.pipe.image_processor.postprocess(
            vae.decode(latents / scale + shift).sample, output_type="np"
        )
    torch.testing.assert_close(latents, expected)
    decoded = backbone.decode(latents)
    assert decoded.shape == (3, 16, 16, 3)
    assert decoded.dtype == torch.uint8
    assert torch.equal(decoded, torch.from_numpy((picture * 255).round()).to(torch.uint8))


@pytest.mark.parametrize("family", ["sd", "sd3"])
def test_the_posterior_is_scaled_as_latents_are(family: str, ready: Callable[[str], Any]) -> None:
    backbone = ready(family)
    images = torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8)
    mean, deviation = backbone.encode_posterior(images)
    assert torch.equal(mean, backbone.encode_images(images))
    vae = backbone.pipe.vae
    with torch.no_grad():
        law = vae.encode(images.permute(0, 3, 1, 2) / 127.5 - 1).latent_dist
    drawn = law.mean + law.std  # a sample whose noise is one
    shift = vae.config.shift_factor or 0.0
    torch.testing.assert_close(mean + deviation, (drawn - shift) * vae.config.scaling_factor)


def test_many_pixels_go_through_the_autoencoder_in_parts(
    build: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """16 pictures of 512 pixels at once, 4 of 1024, 1 of 2048 and more."""
    codec = build("sd").codec
    assert [codec._chunk(side, side) for side in (32, 512, 1024, 2048, 4096)] == [16, 16, 4, 1, 1]
    monkeypatch.setattr(diffusers_module, "PIXELS", 2 * 16 * 16)
    sizes: list[int] = []
    for name in ("encode", "decode"):
        plain = getattr(codec.vae, name)
        monkeypatch.setattr(
            codec.vae, name, lambda x, plain=plain: sizes.append(len(x)) or plain(x)
        )
    codec.decode(codec.posterior(torch.zeros(5, 16, 16, 3, dtype=torch.uint8))[0])
    assert sizes == [2, 2, 1, 2, 2, 1]


def test_video_decodes_to_frames(ready: Callable[[str], Any]) -> None:
    backbone = ready("cogvideox")
    clips = backbone.decode(torch.randn(1, *backbone.latent_shape))
    assert clips.shape == (1, 9, 64, 64, 3)
    assert clips.dtype == torch.uint8


def test_planning_sees_that_videos_come_from_no_images(ready: Callable[[str], Any]) -> None:
    backbone = ready("cogvideox")
    assert type(backbone).encode_images is Backbone.encode_images
    with pytest.raises(NotImplementedError, match="cogvideox encodes no images"):
        backbone.encode_images(torch.zeros(1, 64, 64, 3, dtype=torch.uint8))


def test_half_precision_runs_only_the_network(build: Callable[..., Any]) -> None:
    backbone = build("sd", dtype="bfloat16")
    x, t, cond, _ = inputs(backbone)
    with torch.no_grad():
        got = backbone.predict(None, x, t, cond)
        student = backbone.make_net("student", rank=2)
        assert torch.equal(backbone.predict(student, x, t, cond).raw, got.raw)
    assert network(backbone).dtype == torch.bfloat16
    assert backbone.pipe.vae.dtype == got.x0.dtype == torch.float32
    assert {p.dtype for p in student.parameters()} == {torch.float32}
    copy = backbone.make_net("copy", "copy")
    assert {p.dtype for p in copy.parameters()} == {torch.float32}
    with torch.no_grad():
        near = backbone.predict(copy, x, t, cond)
    torch.testing.assert_close(near.raw, got.raw, rtol=0.1, atol=0.1)


# ---- identity and errors ----------------------------------------------------------------


def test_revision_is_the_content(folders: Callable[[str], Path], tmp_path: Path) -> None:
    folder = folders("sd")
    first = registry.build_backbone("sd", {"model": str(folder)}).revision()
    moved = tmp_path / "elsewhere"
    shutil.copytree(folder, moved)
    other = registry.build_backbone("sd", {"model": str(moved)})
    assert other.revision() == first
    config = moved / "unet" / "config.json"
    config.write_text(config.read_text().replace("true", "false", 1))
    assert other.revision() != first


@pytest.mark.parametrize(
    ("given", "expected"),
    [("", "unpinned:owner/name@main"), ("v1", "unpinned:owner/name@v1"), ("a" * 40, "a" * 40)],
)
def test_revision_of_a_repository(given: str, expected: str) -> None:
    backbone = registry.build_backbone("sd", {"model": "owner/name", "revision": given})
    assert backbone.revision() == expected


def test_a_branch_is_the_commit_that_this_disk_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else other weights would stand under the key of those that were there before."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    cache = tmp_path / "models--owner--name"
    (cache / "refs").mkdir(parents=True)
    found = []
    for commit in ("a" * 40, "b" * 40):
        (cache / "refs" / "main").write_text(commit)
        (cache / "snapshots" / commit).mkdir(parents=True)
        (cache / "snapshots" / commit / "model_index.json").write_text("{}")
        found.append(registry.build_backbone("sd", {"model": "owner/name"}).revision())
    assert found == ["a" * 40, "b" * 40]
    asked: list[str] = []
    monkeypatch.setattr(
        diffusers.DiffusionPipeline, "download",
        lambda model, revision, variant: asked.append(revision) or str(tmp_path),
    )  # fmt: skip
    fetched("P", Source("owner/name"), "")
    assert asked == ["b" * 40]
    assert other_weights("a" * 40, found[1])
    assert not other_weights("unpinned:owner/name@main", found[1])


def test_missing_folder_is_one_line(tmp_path: Path) -> None:
    backbone = registry.build_backbone("sd", {"model": str(tmp_path / "nowhere")})
    with pytest.raises(MissingWeights, match="no such folder"):
        backbone.revision()
    with pytest.raises(MissingWeights, match="no such folder"):
        backbone.load()


def test_broken_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(MissingWeights) as caught:
        registry.build_backbone("sd", {"model": str(tmp_path)}).load()
    assert "\n" not in caught.value.line


def test_unreachable_repository_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(MissingWeights, match="hub's local cache") as caught:
        registry.build_backbone("sd", {"model": "nobody/nothing"}).load()
    assert "\n" not in caught.value.line
