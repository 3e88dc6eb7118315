"""The renderer: a picture depends on its scene, seed and index alone."""

from __future__ import annotations

import numpy as np

from distillbench.world import data, render


def test_a_picture_does_not_depend_on_its_batch() -> None:
    index = np.arange(64, dtype=np.int64)
    whole = data.render(data.draws(1, index), seed=1, index=index)
    for rows in (index[10:11], index[::-1], index[40:]):
        some = data.render(data.draws(1, rows), seed=1, index=rows)
        np.testing.assert_array_equal(some, whole[rows])


def test_batches_of_the_stream_join() -> None:
    left, words = data.training_batch(2, 0, 32)
    a, b = data.training_batch(2, 0, 16), data.training_batch(2, 1, 16)
    np.testing.assert_array_equal(left, np.concatenate([a[0], b[0]]))
    assert words == a[1] + b[1]


def test_seed_and_index_change_the_picture_but_not_the_scene() -> None:
    prompt = ["a photo of a large red star at the left on snow"]
    a, b = data.renders_of(prompt, seed=0), data.renders_of(prompt, seed=1)
    c = data.renders_of(prompt, seed=0, first=1)
    assert (a != b).mean() > 0.3
    assert (a != c).mean() > 0.3


def test_pictures_are_what_the_golden_mean_says() -> None:
    images, _ = data.training_batch(0, 0, 256)
    assert images.shape == (256, 32, 32, 3)
    assert images.dtype == np.uint8
    assert images.astype(np.int64).sum() == 104_771_092


def test_colour_size_and_position_show_in_the_pixels() -> None:
    base = "a {style} of a {size} {colour} circle at the {position} on fog"
    common = {"style": "animation", "size": "large", "colour": "red", "position": "left"}

    def mean(**change: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        prompts = [base.format(**(common | change))] * 16
        return data.renders_of(prompts, seed=0).astype(np.float64).mean(0)

    left, right = mean(), mean(position="right")
    redness = [picture[..., 0] - picture[..., 2] for picture in (left, right)]
    assert redness[0][:, :16].mean() > 3 * abs(redness[0][:, 16:].mean())
    assert redness[1][:, 16:].mean() > 3 * abs(redness[1][:, :16].mean())
    small = mean(size="small")
    assert (left[..., 0] - left[..., 2]).sum() > 2 * (small[..., 0] - small[..., 2]).sum()
    blue = mean(colour="blue")
    assert (blue[..., 2] - blue[..., 0])[:, :16].mean() > 10


def test_uniforms_are_uniform_and_uncorrelated() -> None:
    u = render.uniforms(0, np.arange(20_000), 12, stream=1)
    assert abs(u.mean() - 0.5) < 0.003
    assert abs(u.std() - 12**-0.5) < 0.003
    off_diagonal = np.corrcoef(u.T) - np.eye(12)
    assert np.abs(off_diagonal).max() < 0.04
