"""Clips of the picture world, and their prompt sets."""

from __future__ import annotations

import numpy as np

from distillbench.world import clips, data
from distillbench.world.prompts import NO_STYLE, prompt_set
from distillbench.world.scene import LEVELS, heldout


def test_a_clip_is_its_own_whatever_the_batch_and_a_longer_one_goes_on() -> None:
    index = np.arange(6, dtype=np.int64)
    drawn = data.draws(3, index)
    shown = clips.render_clips(drawn, seed=3, index=index)
    assert shown.shape == (6, clips.FRAMES, 32, 32, 3)
    assert shown.dtype == np.uint8
    longer = clips.render_clips(drawn, seed=3, index=index, frames=clips.FRAMES + 4)
    np.testing.assert_array_equal(longer[:, : clips.FRAMES], shown)
    batch, captions = clips.clip_batch(3, 1, 3)
    np.testing.assert_array_equal(batch, shown[3:])
    assert captions == drawn.captions()[3:]


def test_every_clip_moves_a_little_between_neighbours_and_more_over_all() -> None:
    shown, _ = clips.clip_batch(4, 0, 32)
    frames = shown.astype(np.int64)
    near = np.abs(np.diff(frames, axis=1)).mean((1, 2, 3, 4))
    far = np.abs(frames[:, -1] - frames[:, 0]).mean((1, 2, 3))
    assert (near > 0).all()
    assert far.mean() > 2 * near.mean()


def test_things_are_where_the_caption_says_in_the_middle_frame() -> None:
    """There a clip has the places of the picture of the same scene."""
    index = np.arange(40, dtype=np.int64)
    drawn = data.draws(5, index)
    scenes = data.scenes_at(drawn, seed=5, index=index)
    u = np.random.default_rng(0).uniform(-1, 1, (40, 16)).astype(np.float32)
    still = u.copy()
    still[:, 6:8] = 0  # no bob
    place, camera = clips._moved(scenes.place, still, clips.FRAMES // 2)
    np.testing.assert_allclose(place, scenes.place, atol=1e-6)
    np.testing.assert_allclose(camera, 0, atol=1e-6)
    for frame in (0, clips.FRAMES - 1):
        moved, _ = clips._moved(scenes.place, u, frame)
        assert np.abs(moved[..., 0] - scenes.place[..., 0]).max() < 0.15


def test_prompts_of_clips_are_of_their_own_split() -> None:
    evaluation, training = (prompt_set(f"world-video-{k}") for k in ("eval", "train"))
    assert (len(evaluation.prompts), len(training.prompts)) == (256, 2048)
    assert list(evaluation.categories[:4]) == list(LEVELS["style"])
    assert NO_STYLE not in evaluation.categories
    assert len({evaluation.sha256, training.sha256, prompt_set("world-eval").sha256}) == 3
    said = data.said_of(evaluation.prompts)
    whole = (said[:, :6] >= 0).all(1)
    assert whole.sum() > 20
    assert heldout(said[whole]).all()
    shown = data.said_of(training.prompts)
    single = (shown[:, :6] >= 0).all(1)
    assert not heldout(shown[single]).any()
