"""The picture world's families on weights of two training steps: stock pipelines, plans, cards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from distillbench.analysis.check import checked_plan
from distillbench.api import registry
from distillbench.api.prompts import PromptSet
from distillbench.errors import BadInput, ConfigError
from distillbench.experiment.load import load_experiment
from distillbench.sample import generate
from distillbench.student.files import Student
from distillbench.tiny_training import (
    aes,
    bank,
    cards,
    clip,
    denoise,
    gates,
    oracle,
    quality,
    recipes,
    samples,
    video,
)
from distillbench.tiny_training.__main__ import Model
from distillbench.world import clips, weights
from distillbench.world.prompts import prompt_set

PARTS = ("text", "inception", "vae", "text-2", "text-t5", "video-vae")
PIPELINES = {
    "tiny-sd": "StableDiffusionPipeline",
    "tiny-sdxl": "StableDiffusionXLPipeline",
    "tiny-pixart": "PixArtAlphaPipeline",
    "tiny-sd3": "StableDiffusion3Pipeline",
    "tiny-cogvideox": "CogVideoXPipeline",
}
PROMPTS = ["a photo of a small red house on the left on a beach", "a cat"]
every_family = pytest.mark.parametrize("name", PIPELINES)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Every family, trained for two steps, in the place of the shipped weights."""
    out = tmp_path_factory.mktemp("families")
    run = recipes.TrainingRun(out=out, steps=2)
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bank, "SHARD", 64)
        patch.setattr(bank, "PART", 32)
        for name in (*PARTS, "unet", *(f.name for f in recipes.FAMILIES[1:])):
            recipes.train(name, run)
        for family in recipes.FAMILIES:
            cards.write(out / family.name, {"n": 2}, run.jobs)
        patch.setattr(weights, "root", lambda: out)
        yield out


@pytest.fixture(scope="module")
def stock(root: Path) -> Callable[[str], Any]:
    """A family's folder as diffusers alone loads it, its denoiser's every weight moved.

    Layers that start at zero would hide mistakes.
    """

    def load(name: str) -> Any:
        pipeline = DiffusionPipeline.from_pretrained(root / name)
        _moved(denoise.denoiser_of(pipeline))
        return pipeline

    return load


def _moved(net: torch.nn.Module) -> None:
    rng = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.03 * torch.randn(parameter.shape, generator=rng))


@every_family
def test_a_folder_loads_as_the_stock_pipeline_of_its_class(root: Path, name: str) -> None:
    pipeline = DiffusionPipeline.from_pretrained(root / name)
    assert type(pipeline) is getattr(diffusers, PIPELINES[name])
    assert "_name_or_path" not in (root / name / "model_index.json").read_text()
    networks = [p for p in pipeline.components.values() if isinstance(p, torch.nn.Module)]
    for weight in (w for network in networks for w in network.parameters()):
        assert weight.dtype == torch.float32
        assert torch.equal(weight, weight.half().float())


def test_the_families_leave_room_for_the_scorers(root: Path) -> None:
    """All shipped weights are under 40 MB, the scorers about 9."""
    sizes = {n: sum(f.stat().st_size for f in (root / n).rglob("*")) for n in PIPELINES}
    print(sizes)
    assert sum(sizes.values()) < 30.5e6


@every_family
def test_pictures_are_those_of_the_stock_pipeline(
    stock: Callable[[str], Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """25 guided steps of our own solver against the pipeline's own scheduler."""
    theirs = samples.sample(stock(name), PROMPTS, steps=25, guidance=3.0)
    backbone: Any = registry.build_backbone(name, {})
    backbone.load()
    _moved(denoise.denoiser_of(backbone.pipe))

    def noise(seed: int, positions: range, shape: Any, stream: str) -> torch.Tensor:
        assert stream == "start"
        drawn = [torch.randn(shape, generator=torch.Generator().manual_seed(i)) for i in positions]
        return torch.stack(drawn)

    monkeypatch.setattr(generate, "sample_noise", noise)
    method = registry.build_method("teacher", {}, backbone)
    sampler = method.sampler(25).model_copy(update={"guidance_scale": 3.0})
    ours = generate.generate_images(Student(method, None), PROMPTS, sampler=sampler).numpy()
    assert ours.shape == theirs.shape
    assert ours.std() > 5
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1


def test_a_flow_teacher_is_sampled_at_the_times_of_its_students(
    stock: Callable[[str], Any], root: Path
) -> None:
    pipeline = stock("tiny-sd3")
    backbone = registry.build_backbone("tiny-sd3", {})
    for steps in (1, 2, 4):
        samples.sample(pipeline, PROMPTS[:1], steps=steps, guidance=1.0)
        times = pipeline.scheduler.timesteps.tolist()
        assert times == pytest.approx(backbone.nodes(steps))


@every_family
def test_every_method_plans_or_is_refused_with_a_reason(
    root: Path, tmp_path: Path, name: str
) -> None:
    def plan(methods: list[str]) -> Any:
        rows = ", ".join(f"{{label: {m}, method: {m}, nfe: 4}}" for m in methods)
        file = tmp_path / "e.yaml"
        file.write_text(
            f"name: t\nbase: {{backbone: {name}, sample: {{n: 4}}, train: {{updates: 2}}}}"
            f"\nrows: [{rows}]\n"
        )
        return checked_plan(load_experiment(file))

    methods, refused = registry.METHODS.names(), set()
    try:
        plan(methods)
    except ConfigError as error:
        for problem in error.problems:
            assert "rows[" in problem
            assert "\n" not in problem
            refused.add(methods[int(problem.split("rows[")[1].split("]")[0])])
    planned = [m for m in methods if m not in refused]
    assert {"teacher", "tdm", "dmd2"} <= set(planned)
    assert len(plan(planned).cells) == len(planned)


@every_family
def test_the_card_lists_the_files_and_the_revision_is_theirs(root: Path, name: str) -> None:
    card = weights.card(name)
    assert card["revision"] == weights.revision(name)
    assert registry.build_backbone(name, {}).revision() == card["revision"]
    assert set(card["training"]) == set(cards.ABOUT[name].jobs)
    assert {c.split()[-1] for c in card["commands"]} <= set(recipes.RECIPES)
    assert name in quality.MEASURES
    file = root / name / "model_index.json"
    before = file.read_bytes()
    file.write_bytes(before + b"\n")
    assert weights.revision(name) != card["revision"]
    file.write_bytes(before)


@every_family
def test_real_latents_are_of_the_size_that_the_denoiser_takes(root: Path, name: str) -> None:
    backbone = registry.build_backbone(name, {})
    backbone.load()
    made = [backbone.training_latents(PROMPTS, torch.Generator().manual_seed(0)) for _ in "ab"]
    assert torch.equal(made[0], made[1])
    assert made[0].shape == (2, *backbone.latent_shape)


@pytest.mark.parametrize("name", ["tiny-sd3", "tiny-cogvideox"])
def test_a_family_is_measured_with_the_scorers_beside_it(
    root: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    for scorer in ("tiny-clip", "tiny-hps"):
        recipes.save_clip(root / scorer, clip.build())
    recipes.save_folder(root / "tiny-oracle", oracle.build(), oracle.CONFIG)
    recipes.save_folder(root / "tiny-aes", aes.Head(), {"widths": list(aes.WIDTHS)})
    few = prompt_set("world-video-eval").prompts[:4]
    monkeypatch.setattr(gates, "prompt_set", lambda _: PromptSet("few", few, ("",) * 4))
    monkeypatch.setattr(gates, "TURNS", 1)
    monkeypatch.setattr(gates, "CLIP_TURNS", 1)
    monkeypatch.setattr(gates, "STEP_COUNTS", (1, 4, 25))
    monkeypatch.setattr(gates, "GUIDANCES", (1.0,))
    found = quality.MEASURES[name](root)
    assert found["gates"].keys() == gates.gates(found["samples"]).keys()
    assert np.isfinite(found["reconstruction_psnr_db"])
    for row in (found["renders"], *found["samples"].values()):
        assert row.keys() >= {"all_right", "hps", "hps_spread", "clip", "aes", "fid"}
        assert all(np.isfinite(value) for value in row.values())
        assert ("change" in row) == (name == "tiny-cogvideox")


def test_clips_that_the_autoencoder_cannot_give_back_are_refused_at_planning(
    root: Path, tmp_path: Path
) -> None:
    file = tmp_path / "e.yaml"
    for frames in (8, 10, 13, 0):
        file.write_text(
            f"name: t\nbackbones: {{v: {{use: tiny-cogvideox, params: {{frames: {frames}}}}}}}\n"
            "base: {backbone: v, nfe: 4, sample: {n: 4}}\nrows: [{method: teacher}]\n"
        )
        with pytest.raises(BadInput, match=r"e\.yaml:2:\d+: .*frames") as caught:
            checked_plan(load_experiment(file))
        assert "\n" not in caught.value.line
    backbone = registry.build_backbone("tiny-cogvideox", {"frames": 17})
    backbone.load()
    assert backbone.latent_shape == (5, video.CHANNELS, 8, 8)
    assert backbone.decode(torch.zeros(1, *backbone.latent_shape)).shape == (1, 17, 32, 32, 3)


def test_the_video_teacher_has_its_own_nodes_and_no_signal_at_the_last_time(root: Path) -> None:
    backbone = registry.build_backbone("tiny-cogvideox", {})
    backbone.load()
    assert backbone.nodes(4) == (999, 856, 665, 399)
    assert backbone.prediction_type == "v_prediction"
    assert float(backbone.process.alphas[-1]) == 0


def test_the_command_line_trains_every_model() -> None:
    assert [model.value for model in Model] == [*recipes.RECIPES, "all"]
    assert {f.name for f in recipes.FAMILIES} == set(PIPELINES)
    assert set(recipes.PARTS) == set(PARTS)


def test_a_unit_deviation_moves_no_clip() -> None:
    torch.manual_seed(0)
    net = video.build().eval()
    x = video.to_clips(clips.clip_batch(0, 0, 2)[0])
    with torch.no_grad():
        before = net.encode(x).latent_dist
        y = net.decode(before.mean).sample
        video.unit_deviation(net, count=16)
        after = net.encode(x).latent_dist
        torch.testing.assert_close(net.decode(after.mean).sample, y, atol=1e-4, rtol=1e-4)
        ratio = before.std / after.std
        means = net.encode(video.to_clips(clips.clip_batch(7, 0, 16)[0])).latent_dist.mean
    torch.testing.assert_close(ratio, ratio.mean((0, 2, 3, 4), keepdim=True).expand_as(ratio))
    torch.testing.assert_close(means.std((0, 2, 3, 4)), torch.ones(video.CHANNELS))
