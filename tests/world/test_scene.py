"""Scenes, captions and prompt sets: exact labels, a disjoint split, fixed identities."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from distillbench.errors import BadInput
from distillbench.world import captions, data, prompts, scene

SHA = {
    "world-eval": "91f00b5e8562771782754386bbc5d4e714190a932c18bdd5bb1f86f3008cb547",
    "world-train": "1ceb933a5c687afdc05ff49d8c71b14bd09752fe518133b0022d1f3b8fe234c2",
    "world-heldout": "aa124bcff63ed4505307fa714407f97d96cfd7f2b225e00384c8295fc78410eb",
}


def test_caption_and_scene_are_inverse_in_every_wording() -> None:
    drawn = data.draws(3, np.arange(400), pairs=0.5)
    assert 0.4 < drawn.pair.mean() < 0.6
    for one in drawn.scenes():
        for wording in range(captions.WORDINGS):
            assert captions.scene_of(captions.caption(one, wording=wording)) == one


def test_captions_fit_the_vocabulary_and_length() -> None:
    words = [c.split() for c in data.draws(4, np.arange(2000)).captions()]
    assert {w for c in words for w in c} <= set(captions.VOCABULARY)
    assert max(map(len, words)) <= captions.MAX_WORDS - 2


@pytest.mark.parametrize(
    "prompt",
    ["", "a cat", "a photo of a large red star", "a photo of a red star at the left on snow"],
)
def test_other_text_is_refused(prompt: str) -> None:
    with pytest.raises(BadInput, match="not a caption"):
        captions.scene_of(prompt)


def test_codes_and_numbers_name_the_same_scene() -> None:
    drawn = data.draws(5, np.arange(300), pairs=0.4)
    numbers = [scene.combination_of(s) for s in drawn.scenes()]
    assert numbers == drawn.combination.tolist()


def test_training_never_shows_a_heldout_combination() -> None:
    train = data.draws(6, np.arange(20_000)).scenes()
    assert not any(scene.heldout(s) for s in train[:3000])
    held = data.draws(6, np.arange(3000), heldout=True).scenes()
    assert all(scene.heldout(s) for s in held)
    assert not set(train) & set(held)


def test_about_fifteen_percent_are_heldout() -> None:
    share = len(data.single_split(heldout=True)) / scene.SINGLE_COUNT
    assert 0.13 < share < 0.17


@pytest.mark.parametrize("name", prompts.PROMPT_SETS)
def test_prompt_sets_are_fixed(name: str) -> None:
    chosen = prompts.prompt_set(name)
    assert chosen.sha256 == SHA[name]
    assert len(set(chosen.prompts)) == len(chosen.prompts) == len(chosen.categories)
    styles = [prompts.scene_of(p).style for p in chosen.prompts]
    assert tuple(styles) == chosen.categories
    expected = name != "world-train"
    assert {scene.heldout(prompts.scene_of(p)) for p in chosen.prompts} == {expected}


@pytest.mark.parametrize("n", [4, 64, 1000, 1024])
def test_any_first_prompts_of_eval_are_balanced(n: int) -> None:
    first = prompts.prompt_set("world-eval").categories[:n]
    assert {first.count(style) for style in scene.STYLES} == {n // 4}


def test_unknown_prompt_set_is_refused() -> None:
    with pytest.raises(BadInput, match="world-eval"):
        prompts.prompt_set("world-nothing")


def test_prompts_and_weights_need_no_torch() -> None:
    code = (
        "import sys; from distillbench.world import prompts, weights; "
        "prompts.prompt_set('world-eval'); weights.root(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
