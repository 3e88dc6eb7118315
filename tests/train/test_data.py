"""Batches are functions of (seed, step, micro-batch)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from distillbench.api import registry
from distillbench.api.backbone import Backbone
from distillbench.data import batches as data
from distillbench.data.batches import DataSource, ImageFolder
from distillbench.errors import BadInput, NotSupported
from distillbench.specs.stages import FitSpec

PROMPTS = [f"condition {i}" for i in range(8)]


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    made = registry.build_backbone("gmm", {})
    made.load("cpu")
    return made


def source(backbone: Backbone, **options: Any) -> DataSource:
    return DataSource(backbone, PROMPTS, **{"seed": 0, "batch_size": 6, "latents": True, **options})


def test_a_batch_is_the_same_whatever_came_before(backbone: Backbone) -> None:
    a, b = source(backbone), source(backbone)
    for step in range(3):
        a.batch(step, 0)
    one, two = a.batch(3, 1), b.batch(3, 1)
    assert one.prompts == two.prompts
    assert one.latents is not None
    assert two.latents is not None
    assert torch.equal(one.latents, two.latents)
    assert torch.equal(one.randn("x"), two.randn("x"))
    assert torch.equal(one.cond.tensors["label"], two.cond.tensors["label"])


@pytest.mark.parametrize("other", [(0, 4, 0, 0), (0, 3, 1, 0), (0, 3, 0, 1), (1, 3, 0, 0)])
def test_every_part_of_the_key_matters(backbone: Backbone, other: tuple[int, ...]) -> None:
    seed, *where = other
    one = source(backbone).batch(3, 0, 0).randn("x")
    assert not torch.equal(one, source(backbone, seed=seed).batch(*where).randn("x"))


def test_streams_of_a_batch_differ(backbone: Backbone) -> None:
    batch = source(backbone).batch(0, 0)
    assert not torch.equal(batch.randn("a"), batch.randn("b"))
    assert torch.equal(batch.randn("a"), batch.randn("a"))


def test_conditions_do_not_depend_on_caching(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = source(backbone).batch(5, 0).cond.tensors["label"]
    monkeypatch.setattr(data, "CACHE_BYTES", 0)
    direct = source(backbone).batch(5, 0).cond.tensors["label"]
    assert torch.equal(cached, direct)


def test_latents_are_made_only_where_needed(backbone: Backbone) -> None:
    assert source(backbone, latents=False).batch(0, 0).latents is None


def test_a_world_without_data_asks_for_images(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(backbone), "training_latents", Backbone.training_latents)
    with pytest.raises(NotSupported, match="makes no training data"):
        source(backbone).batch(0, 0)


def test_an_image_folder_brings_its_captions(
    tmp_path: Path, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(2):
        Image.new("RGB", (4, 4), (i, 0, 0)).save(tmp_path / f"{i}.png")
    rows = [{"file": f"{i}.png", "text": f"condition {i}"} for i in range(2)]
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    monkeypatch.setattr(
        type(backbone), "encode_images", lambda self, images: images[:, 0, 0, :2].float()
    )
    batch = source(backbone, images=str(tmp_path)).batch(0, 0)
    assert batch.latents is not None
    for prompt, latent in zip(batch.prompts, batch.latents, strict=True):
        assert prompt == f"condition {int(latent[0])}"  # an image keeps its own caption


def test_bad_image_folders_are_explained(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no training images in .*captions\.jsonl"):
        ImageFolder(tmp_path)
    (tmp_path / "captions.jsonl").write_text('{"file": "a.png"}\n')
    with pytest.raises(BadInput, match="line 1 needs the keys"):
        ImageFolder(tmp_path)
    for name, size in (("a.png", 4), ("b.png", 5)):
        Image.new("RGB", (size, size)).save(tmp_path / name)
    rows = [{"file": name, "text": ""} for name in ("a.png", "b.png")]
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(BadInput, match="differ in size"):
        ImageFolder(tmp_path).read([0, 1])


@pytest.mark.parametrize("how", ["center-crop", "pad", "stretch"])
def test_pictures_of_any_size_and_kind_train_together(tmp_path: Path, how: Any) -> None:
    tiny = registry.build_backbone("tiny-sd", {})
    tiny.load("cpu")
    assert tiny.image_size() == (32, 32)
    made = {"a.png": ("RGBA", (64, 20)), "b.jpg": ("L", (7, 90)), "c.tiff": ("CMYK", (32, 32))}
    for name, (mode, size) in made.items():
        Image.new(mode, size).save(tmp_path / name)
    rows = [{"file": name, "text": name} for name in made]
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    fit = FitSpec(resize=how, background="black")
    batch = source(tiny, images=str(tmp_path), fit=fit).batch(0, 0)
    assert batch.latents is not None
    assert batch.latents.shape == (6, *tiny.latent_shape)
