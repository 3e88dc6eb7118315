"""The ControlNet of the tiny world: what it learns from, and how its effect is measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from distillbench.api.steering import Made
from distillbench.data.steering import control_picture
from distillbench.errors import BadInput
from distillbench.tiny_training import bank, controlnet, loop, recipes, text, unet, vae
from distillbench.world.data import draws, renders_of

PROMPTS = ["a photo of a large red cat", "a painting of a small blue house"]


def _pipeline() -> StableDiffusionPipeline:
    torch.manual_seed(0)
    return StableDiffusionPipeline(
        vae=vae.build(), text_encoder=text.build_tower().eval().requires_grad_(False),
        tokenizer=text.build_tokenizer(), unet=unet.build(), scheduler=unet.build_scheduler(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def _bank() -> bank.Bank:
    latents = torch.randn(128, 12, 8, 8, generator=torch.Generator().manual_seed(1)).half()
    captions = draws(bank.SEED, np.arange(128)).captions()
    return bank.Bank(latents, text.tokens(text.build_tokenizer(), captions).to(torch.uint8))


def test_edges_are_those_that_rows_are_steered_by(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="OpenCV is not installed: no edges were made")
    images = renders_of(PROMPTS, seed=3)
    for image, edges in zip(images, controlnet.edge_maps(images), strict=True):
        Image.fromarray(image).save(tmp_path / "x.png")
        taken = np.asarray(control_picture(tmp_path / "x.png", Made("canny"), (32, 32)))
        np.testing.assert_array_equal(taken, np.stack([edges] * 3, -1))
        assert 30 < (edges > 0).sum() < 400


def test_it_begins_as_no_change_at_all() -> None:
    net = controlnet.build(_pipeline().unet).eval()
    with torch.no_grad():
        down, middle = net(
            torch.randn(1, 12, 8, 8), 500, torch.randn(1, 24, text.WIDTH),
            torch.ones(1, 3, 32, 32), return_dict=False,
        )  # fmt: skip
    assert all(float(out.abs().max()) == 0 for out in (*down, middle))


def test_a_stopped_training_goes_on_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cv2", reason="OpenCV is not installed: no edges were made")
    monkeypatch.setattr(loop.Job, "save_every", 1)
    pipe, data = _pipeline(), _bank()
    before = {name: value.clone() for name, value in pipe.unet.state_dict().items()}
    whole = controlnet.train(tmp_path / "a", pipe, data, steps=3)
    seen = controlnet.edge_maps
    drawn = iter([0, 1])

    def stopping(images: bank.Images) -> bank.Images:
        if next(drawn, None) is None:
            raise KeyboardInterrupt
        return seen(images)

    with monkeypatch.context() as patch:
        patch.setattr(controlnet, "edge_maps", stopping)
        with pytest.raises(KeyboardInterrupt):
            controlnet.train(tmp_path / "b", pipe, data, steps=3)
    again = controlnet.train(tmp_path / "b", pipe, data, steps=3)
    for one, two in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two)
    assert torch.any(again.controlnet_down_blocks[0].weight != 0)
    for name, value in pipe.unet.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_edges_followed_is_one_for_the_same_and_forgives_a_pixel() -> None:
    asked = np.zeros((1, 16, 16), np.uint8)
    asked[0, 4:12, 8] = 255
    assert controlnet.followed(asked, asked) == pytest.approx(1)
    assert controlnet.followed(asked, np.roll(asked, 1, 2)) == pytest.approx(1)
    assert controlnet.followed(asked, np.roll(asked, 3, 2)) == pytest.approx(0)
    half = asked.copy()
    half[0, 8:] = 0
    assert controlnet.followed(asked, half) == pytest.approx(2 * (5 / 8) / (1 + 5 / 8))
    assert controlnet.followed(asked, np.zeros_like(asked)) == pytest.approx(0)


def test_it_needs_the_teacher(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="train unet first"):
        recipes.train("tiny-controlnet", recipes.TrainingRun(out=tmp_path))
