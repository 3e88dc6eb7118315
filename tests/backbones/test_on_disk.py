"""What a pipeline's files tell without torch: lengths of prompts, sizes of networks and samples."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from distillbench.api import registry
from distillbench.api.backbone import Footprint
from distillbench.backbones._tokens import counter
from distillbench.errors import BadInput
from distillbench.files.weight_files import weight_files

CAPTION = "a photo of a large red cat on the left in the snow"


def test_clip_counts_as_open_clip_does(tmp_path: Path) -> None:
    from open_clip.tokenizer import SimpleTokenizer

    theirs = SimpleTokenizer()
    merges = sorted(theirs.bpe_ranks, key=lambda pair: theirs.bpe_ranks[pair])
    (tmp_path / "vocab.json").write_text(json.dumps(theirs.encoder))
    text = "\n".join(["#version: 0.2", *map(" ".join, merges)])
    (tmp_path / "merges.txt").write_text(text, encoding="utf-8")
    prompts = [
        "",
        "a cat",
        "A  Big-eyed dog, 8k!!! it's 1999",
        "caf\u00e9 \u2603 \U0001f600 \u4f60\u597d",
        "x " * 99,
    ]
    count = counter(tmp_path)
    assert count is not None
    assert count(prompts) == [len(theirs.encode(prompt)) + 2 for prompt in prompts]


def test_a_tokenizer_that_is_not_known_counts_nothing(tmp_path: Path) -> None:
    assert counter(tmp_path) is None
    (tmp_path / "tokenizer.json").write_text("{}")
    assert counter(tmp_path) is None


def test_prompts_that_are_cut_are_counted() -> None:
    tiny = registry.build_backbone("tiny-sd", {})
    assert (
        tiny.cut_prompts(
            [CAPTION, f"{CAPTION} , a red cat on the left in a room in a city at night", "a"]
        )
        == 1
    )
    assert registry.build_backbone("gmm", {}).cut_prompts(["condition 0"]) == 0
    assert registry.build_backbone("sdxl", {"model": "no/where"}).cut_prompts(["a " * 99]) == 0


def test_worlds_say_which_prompts_they_know() -> None:
    tiny, gmm = (registry.build_backbone(name, {}) for name in ("tiny-sd", "gmm"))
    tiny.check_prompts(["cat a in", ""], latents=False)
    tiny.check_prompts([CAPTION], latents=True)
    with pytest.raises(BadInput, match="not a caption of the tiny world: 'cat a in'"):
        tiny.check_prompts([CAPTION, "cat a in"], latents=True)
    # A prompt of another world, whose words the text tower would read as unknown ones.
    with pytest.raises(BadInput, match=r"no word 'ring', 'star' .*'a large red star in a ring'"):
        tiny.check_prompts(["a large red star in a ring"], latents=False)
    with pytest.raises(BadInput, match="the gmm world knows"):
        gmm.check_prompts(["a cat"], latents=False)


def test_sizes_are_read_from_files() -> None:
    found = registry.build_backbone("tiny-sd", {}).footprint()
    assert found.sample_bytes == 32 * 32 * 3
    assert found.parameters == 2_500_396
    assert registry.build_backbone("sdxl", {"model": "no/where"}).footprint() == Footprint()


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_variants_have_hyphens_and_shards_are_none(kind: str, tmp_path: Path) -> None:
    """PeRFlow's are called v0-1 and v0-fix."""
    names = {
        f"diffusion_pytorch_model.{kind}": "", f"diffusion_pytorch_model.fp16.{kind}": "fp16",
        f"diffusion_pytorch_model.v0-fix.{kind}": "v0-fix",
        f"diffusion_pytorch_model.{kind}.index.v0-1.json": "v0-1",
    }  # fmt: skip
    shards = [f"diffusion_pytorch_model{at}-00001-of-00002.{kind}" for at in ("", ".v0-1", ".fp16")]
    for name in (*names, *shards):
        (tmp_path / name).touch()
    found = weight_files(tmp_path).found
    assert found == {variant: tmp_path / name for name, variant in names.items()}
