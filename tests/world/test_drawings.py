"""The world of drawings: pictures by (scene, index) alone, captions that say what they show."""

from __future__ import annotations

import numpy as np
import pytest

from distillbench.drawings.grounds import GROUNDS
from distillbench.drawings.part import Frame
from distillbench.drawings.render import COLOURS, SIZE, THINGS, Scenes, draw
from distillbench.drawings.styles import STYLES
from distillbench.errors import BadInput
from distillbench.world import data
from distillbench.world.captions import MAX_WORDS, VOCABULARY, WORDINGS, caption, scene_of
from distillbench.world.scene import COLUMNS, LEVELS, codes_of, heldout, scenes_of


def alone(thing: int, *, style: int = 0, ground: int = 1, count: int = 1) -> Scenes:
    """One large thing in the middle of each picture."""
    full = np.full(count, -1)
    return Scenes(
        style=np.full(count, style), ground=np.full(count, ground),
        thing=np.stack([np.full(count, thing), full], 1),
        colour=np.stack([np.zeros(count, np.int64), full], 1),
        place=np.tile(np.array([[[0.5, 0.55, 0.4], [0, 0, 1]]], np.float32), (count, 1, 1)),
    )  # fmt: skip


def test_there_are_24_things_8_colours_6_grounds_and_4_styles() -> None:
    assert (len(THINGS), len(COLOURS), len(GROUNDS), len(STYLES)) == (24, 8, 6, 4)
    assert len(set(THINGS)) == 24


def test_a_picture_depends_on_its_scene_and_index_alone() -> None:
    index = np.arange(40)
    drawn = data.draws(3, index)
    whole = data.render(drawn, seed=3, index=index)
    some = np.array([31, 7, 12])
    part = data.Draws(drawn.codes[some], drawn.said[some], drawn.wording[some])
    assert whole.shape == (40, SIZE, SIZE, 3)
    assert whole.dtype == np.uint8
    assert (data.render(part, seed=3, index=some) == whole[some]).all()
    assert (data.render(part, seed=4, index=some) != whole[some]).any()


@pytest.mark.parametrize("name", THINGS)
def test_every_thing_is_seen_in_every_style_and_varies(name: str) -> None:
    code = list(THINGS).index(name)
    for style in range(4):
        batch = alone(code, style=style, count=3)
        bare = Scenes(batch.style, batch.ground, np.full((3, 2), -1), batch.colour, batch.place)
        shown, empty = (draw(b, seed=0, index=np.arange(3)).astype(int) for b in (batch, bare))
        changed = (np.abs(shown - empty).max(3) > 30).mean((1, 2))
        assert (changed > 0.08).all(), "too little of it is drawn"
        assert (changed < 0.75).all(), "it covers its ground"
    assert (shown[0] != shown[1]).any()


def test_drawings_stay_in_single_precision_and_finite() -> None:
    axis = np.linspace(-1.5, 1.5, 24, dtype=np.float32)
    u, v = np.broadcast_arrays(axis[None, None], axis[None, :, None])
    numbers = np.random.default_rng(0).random((5, 12), np.float32)
    u, v = (np.broadcast_to(a, (5, 24, 24)) for a in (u, v))
    for name, drawing in THINGS.items():
        for part in drawing(Frame(u, v, numbers)):
            assert part.distance.dtype == np.float32, name
            assert np.isfinite(part.distance).all(), name
            assert part.distance.shape[1:] == (24, 24)


def test_captions_say_what_was_drawn_and_read_back() -> None:
    drawn = data.draws(1, np.arange(3000))
    said = scenes_of(drawn.said)
    for wording in range(WORDINGS):
        for scene in said[:500]:
            words = caption(scene, wording=wording)
            assert scene_of(words) == scene
            assert set(words.split()) <= set(VOCABULARY)
            assert len(words.split()) + 2 <= MAX_WORDS
    assert (codes_of(said) == drawn.said).all()
    told = drawn.said >= 0
    assert (drawn.said[told] == drawn.codes[told]).all()
    assert told[:, COLUMNS.index("thing")].all()


def test_captions_leave_things_unsaid_in_the_shares_that_are_stated() -> None:
    drawn = data.draws(2, np.arange(8000), pairs=0.0)
    optional = [COLUMNS.index(c) for c in ("style", "ground", "colour", "size", "place")]
    said = (drawn.said[:, optional] >= 0).sum(1)
    partly = 1 - data.FULL - data.BARE
    assert abs((said == 5).mean() - (data.FULL + partly / 32)) < 0.02
    assert abs((said == 0).mean() - (data.BARE + partly / 32)) < 0.02
    scored = data.draws(2, np.arange(500), style=True)
    assert (scored.said[:, COLUMNS.index("style")] >= 0).all()


def test_the_splits_share_no_scene() -> None:
    train, held = (data.draws(5, np.arange(4000), held=h).codes for h in (False, True))
    assert not heldout(train).any()
    assert heldout(held).all()
    assert not {tuple(row) for row in train} & {tuple(row) for row in held}


@pytest.mark.parametrize("held", [False, True])
def test_either_split_has_all_its_scenes(held: bool) -> None:
    drawn = data.draws(0, np.arange(4000), held=held)
    assert (heldout(drawn.codes) == held).all()
    scenes, count = np.unique(drawn.codes, axis=0, return_counts=True)
    assert count.max() <= 8, "one scene instead of many"
    assert len(scenes) > 2000
    for column, name in enumerate(COLUMNS):
        shown = drawn.codes[drawn.codes[:, column] >= 0, column]
        share = np.bincount(shown, minlength=len(LEVELS[name.rstrip("2")])) / len(shown)
        assert share.min() > 0.5 * share.mean(), name


def test_what_a_prompt_leaves_unsaid_is_drawn_anew() -> None:
    index = np.arange(200)
    drawn = data.completed(data.said_of(["a house at night"] * 200), seed=0, index=index)
    house, night = LEVELS["thing"].index("house"), LEVELS["ground"].index("night")
    assert (drawn.codes[:, COLUMNS.index("thing")] == house).all()
    assert (drawn.codes[:, COLUMNS.index("ground")] == night).all()
    for free in ("style", "colour", "size", "place"):
        levels = len(LEVELS[free])
        assert set(drawn.codes[:, COLUMNS.index(free)]) == set(range(levels))
    assert (drawn.codes[:, COLUMNS.index("thing2")] == -1).all()
    pair = data.completed(data.said_of(["a cat left of a fish"]), seed=0, index=index[:1])
    assert (pair.codes[0] >= 0).sum() == len(COLUMNS) - 1  # a pair has no place


@pytest.mark.parametrize(
    "prompt",
    ["", "a large red circle at the left on snow", "a house a cat", "a cat left of", "house"
     " left of cat on the left", "a photo of a photo of a cat", "a dog"],
)  # fmt: skip
def test_other_prompts_are_refused_with_an_example(prompt: str) -> None:
    with pytest.raises(BadInput, match="examples are 'a house'"):
        scene_of(prompt)
