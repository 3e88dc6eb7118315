"""Each resize rule equals the implementation whose numbers are published."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from distillbench.score.preprocess import clean_resize, crop_square, pad_square, standardise

SHAPES = [(96, 144), (150, 70), (64, 64), (32, 32), (20, 30)]
EXTREME = [(8000, 20), (20, 8000), (4000, 17), (33, 1), (1, 33), (5, 3000), (2500, 2), (3, 3)]


def picture(height: int, width: int, *, smooth: bool = True) -> torch.Tensor:
    """(1, H, W, 3) uint8."""
    rng = torch.Generator().manual_seed(height * 1000 + width)
    if not smooth:
        return torch.randint(0, 256, (1, height, width, 3), generator=rng).to(torch.uint8)
    coarse = torch.rand(1, 3, 5, 5, generator=rng)
    fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return (fine * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def by_open_clip(image: torch.Tensor, size: int, mode: str) -> torch.Tensor:
    transform = open_clip.image_transform(size, is_train=False, resize_mode=mode)
    return transform(Image.fromarray(image[0].numpy()))


@pytest.mark.parametrize("shape", SHAPES)
def test_padding_is_open_clips_longest_mode(shape: tuple[int, int]) -> None:
    image = picture(*shape)
    ours, theirs = standardise(pad_square(image, 32))[0], by_open_clip(image, 32, "longest")
    # open_clip rounds to 8 bits after each of two passes, HPSv2 and we do not: a grey level.
    assert (ours - theirs).abs().max() < 1.1 / 255 / 0.26
    assert (ours - theirs).abs().mean() < 0.006


def test_padding_cuts_nothing_off_and_centres() -> None:
    image = torch.full((1, 16, 64, 3), 255, dtype=torch.uint8)
    square = pad_square(image, 32)[0]
    rows = square.mean(dim=(0, 2))
    assert torch.allclose(rows[12:20], torch.ones(8))
    assert not rows[:12].any()
    assert not rows[20:].any()


def test_cropping_differs_from_padding_on_wide_pictures() -> None:
    image = picture(96, 144)
    assert (crop_square(image, 32) - pad_square(image, 32)).abs().mean() > 0.05


def test_antialias_changes_textured_pictures() -> None:
    image = picture(128, 128, smooth=False)
    modern, legacy = pad_square(image, 32), pad_square(image, 32, antialias=False)
    assert legacy.std() > 2 * modern.std()
    small = picture(32, 32, smooth=False)
    assert torch.equal(pad_square(small, 32), pad_square(small, 32, antialias=False))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("smooth", [True, False])
def test_cropping_is_open_clips_default(shape: tuple[int, int], smooth: bool) -> None:
    image = picture(*shape, smooth=smooth)
    ours, theirs = standardise(crop_square(image, 32))[0], by_open_clip(image, 32, "shortest")
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_clean_resize_works_on_each_channel_in_float() -> None:
    image = picture(50, 80, smooth=False)
    ours = clean_resize(image, 24)[0]
    channel = Image.fromarray(image[0, :, :, 1].numpy().astype(np.float32))
    theirs = np.asarray(channel.resize((24, 24), Image.Resampling.BICUBIC)).clip(0, 255)
    assert np.array_equal(ours[1].numpy(), theirs)
    assert (ours != ours.round()).any()
    eight_bit = np.asarray(Image.fromarray(image[0].numpy()).resize((24, 24), 3))
    assert np.abs(ours.permute(1, 2, 0).numpy() - eight_bit).max() < 1.1


# ---- extreme and strided pictures -----------------------------------------------------------


@pytest.mark.parametrize("shape", EXTREME)
@pytest.mark.parametrize("antialias", [True, False])
def test_padding_of_extreme_pictures_is_torchs_contiguous_resize(
    shape: tuple[int, int], antialias: bool
) -> None:
    """Resized each channel alone: no memory layout can be read wrongly there."""
    image, size = picture(*shape), 32
    scale = size / max(shape)
    target = tuple(max(round(side * scale), 1) for side in shape)
    planes = [image[..., c][:, None].contiguous().float() / 255 for c in range(3)]
    alone = [
        torch.nn.functional.interpolate(p, target, mode="bicubic", antialias=antialias)
        if scale != 1
        else p
        for p in planes
    ]
    top, left = (size - target[0]) // 2, (size - target[1]) // 2
    ours = pad_square(image, size, antialias=antialias)
    inner = ours[:, :, top : top + target[0], left : left + target[1]]
    assert torch.allclose(inner, torch.cat(alone, 1), atol=1e-6)
    assert float(ours.sum()) == pytest.approx(float(inner.sum()), rel=1e-4, abs=1e-3)


@pytest.mark.parametrize("shape", [s for s in EXTREME if min(s) / max(s) * 32 > 0.5])
def test_padding_of_extreme_pictures_is_near_open_clips(shape: tuple[int, int]) -> None:
    image = picture(*shape)
    ours, theirs = standardise(pad_square(image, 32))[0], by_open_clip(image, 32, "longest")
    assert (ours - theirs).abs().mean() < 0.05


@pytest.mark.parametrize("shape", [s for s in EXTREME if min(s) > 2])
def test_cropping_of_extreme_pictures_is_open_clips(shape: tuple[int, int]) -> None:
    image = picture(*shape)
    ours, theirs = standardise(crop_square(image, 32))[0], by_open_clip(image, 32, "shortest")
    assert torch.allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("rule", [pad_square, crop_square, clean_resize])
def test_a_view_is_resized_as_its_copy(rule: Callable[..., torch.Tensor]) -> None:
    """Cut-outs, steps, flips of axes and channels-first storage: layout is no content."""
    whole = picture(90, 140)
    first = whole.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    views = [whole[:, 7:70, 5:20], whole[:, ::2, ::3], whole.transpose(1, 2), first, whole.flip(3)]
    for view in views:
        assert torch.equal(rule(view, 24), rule(view.contiguous().clone(), 24))
