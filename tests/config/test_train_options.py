"""Settings of a training's speed: in keys where they do anything, refused where they cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from distillbench.api import registry
from distillbench.experiment.cell_parts import TrainConfig
from distillbench.files import places
from distillbench.plan import train_options
from distillbench.specs.stages import TrainSettings

SHARDED = {"shard": "fsdp2", "processes": 2}


def method(name: str = "tdm", backbone: str = "tiny-sd", **params: Any) -> Any:
    return registry.build_method(name, params, registry.build_backbone(backbone, {}))


def said(train: dict[str, Any], made: Any) -> list[tuple[str, str]]:
    return list(train_options.problems(TrainConfig(**train), made))


def test_a_training_without_them_has_the_key_of_before() -> None:
    stated = train_options.stated(TrainConfig(), method())
    assert stated == TrainConfig().model_dump(exclude={"save_every", *train_options.OPTIONS})


@pytest.mark.parametrize("option", ["merge_adapters", "compile"])
def test_they_are_stated_where_they_do_anything(option: str) -> None:
    train = TrainConfig(**{option: True})
    assert train_options.stated(train, method())[option] is True
    copies = train_options.stated(train, method(nets="copy"))
    assert (option in copies) == (option == "compile")  # a full copy has no adapter to merge
    mixed = method(nets={"student": "lora", "fake": "copy"})
    assert train_options.stated(train, mixed)[option] is True


@pytest.mark.parametrize(
    ("train", "backbone", "params", "words"),
    [
        ({"merge_adapters": True}, "tiny-sd", {}, ""),
        ({"compile": True}, "tiny-sd", {}, ""),
        ({"merge_adapters": True}, "gmm", {}, "backbone gmm has no adapters to merge"),
        ({"compile": True}, "gmm", {"nets": "copy"}, "backbone gmm has no blocks to compile"),
        ({"merge_adapters": True, "precision": "bfloat16"}, "tiny-sd", {},
         "a weight in bfloat16 loses what an adapter adds"),
        ({"merge_adapters": True, "precision": "float16"}, "tiny-sd", {}, "set precision: float32"),
        ({"merge_adapters": True, "precision": "bfloat16"}, "tiny-sd", {"nets": "copy"}, ""),
        ({**SHARDED}, "tiny-sd", {}, ""),
        ({**SHARDED}, "gmm", {}, ""),
        ({**SHARDED, "precision": "bfloat16"}, "tiny-pixart", {"nets": "copy"}, ""),
        ({**SHARDED, "processes": 1}, "gmm", {}, "one process has nobody to share with; set proc"),
        ({**SHARDED, "precision": "float16"}, "gmm", {}, "set precision: bfloat16; or leave it"),
        ({**SHARDED, "optimizer": "adamw8bit"}, "gmm", {}, "set optimizer: adamw; or leave it out"),
        ({**SHARDED, "compile": True}, "tiny-sd", {}, "set compile: false; or leave it out"),
        ({**SHARDED, "merge_adapters": True}, "tiny-sd", {}, "set merge_adapters: false; or leave"),
        ({**SHARDED, "merge_adapters": True}, "tiny-sd", {"nets": "copy"}, ""),
    ],
)  # fmt: skip
def test_they_are_refused_where_they_cannot_be(
    train: dict[str, Any], backbone: str, params: dict[str, Any], words: str
) -> None:
    found = said(train, method(backbone=backbone, **params))
    assert len(found) == bool(words)
    for option, what in found:
        assert option in train
        assert words in what
        assert "\n" not in what


def test_a_backbone_without_blocks_is_not_sharded(monkeypatch: pytest.MonkeyPatch) -> None:
    made = method(backbone="gmm")
    monkeypatch.setattr(type(made.backbone), "blocks", ())
    ((option, what),) = said(SHARDED, made)
    assert option == "shard"
    assert "backbone gmm names no blocks" in what


def test_shards_are_stated_where_they_are_asked_for() -> None:
    assert "shard" not in train_options.stated(TrainConfig(processes=2), method())
    assert train_options.stated(TrainConfig(**SHARDED), method())["shard"] == "fsdp2"
    assert TrainSettings(**SHARDED).plain() == {"processes": 2, "shard": "fsdp2"}


def test_compiling_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, compiled = TrainSettings(), TrainSettings(compile=True)
    assert list(train_options.needs(plain, gpu=False)) == []
    monkeypatch.setattr(train_options.shutil, "which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    (need,) = train_options.needs(compiled, gpu=False)
    assert need.problem
    assert "none of g++, clang++, c++" in need.line
    assert "set train.compile: false" in need.line
    monkeypatch.setenv("CXX", "/opt/c++")
    (need,) = train_options.needs(compiled, gpu=False)
    assert not need.problem
    (need,) = train_options.needs(compiled, gpu=True)
    assert need.name == "triton"


def test_another_optimizer_is_stated_and_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    train = TrainConfig(optimizer="adamw8bit")
    assert train_options.stated(train, method())["optimizer"] == "adamw8bit"
    assert said({"optimizer": "adamw8bit"}, method(backbone="gmm")) == []
    settings = TrainSettings(optimizer="adamw8bit")
    assert settings.plain() == {"optimizer": "adamw8bit"}
    monkeypatch.setattr(places.importlib.util, "find_spec", lambda name: None)
    (need,) = train_options.needs(settings, gpu=False)
    assert need.line == (
        'package torchao: is not installed; pip install "distillbench[adamw8bit]", or set '
        "train.optimizer: adamw"
    )
    package, compiler = train_options.needs(settings, gpu=True)
    assert (package.name, compiler.name) == ("torchao", "triton")
    assert "set train.optimizer: adamw" in compiler.line


def test_half_precision_states_its_arithmetic() -> None:
    settings = TrainSettings(precision="bfloat16", arithmetic=2)
    assert settings.plain() == {"precision": "bfloat16", "arithmetic": 2}
    assert "arithmetic" not in TrainSettings().plain()
