"""A pipeline kept between stages: read once, as it was read, and never two of them."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from distillbench.api import registry
from distillbench.backbones import _diffusers
from distillbench.backbones._kept import KeptPipeline
from distillbench.data.prompts import load_prompts
from distillbench.sample.generate import sample_stage
from distillbench.specs.context import Runtime, StageContext
from distillbench.specs.stages import SampleSpec
from distillbench.testing.method import train
from distillbench.testing.specs import sample_spec, train_spec

FAMILIES = ("sd", "sdxl", "sd3", "pixart", "cogvideox")
Build = Callable[..., Any]
LCM = {"rank": 2, "lr": 1e-2}


class Kept_:
    """A keeper of its own for a test, and how often weights were read."""

    def __init__(self) -> None:
        self.kept, self.reads = KeptPipeline(), list[str]()

    def stage(self, lends: bool = True) -> Any:
        return self.kept.stage(lends=lends)


@pytest.fixture
def keeper(monkeypatch: pytest.MonkeyPatch) -> Kept_:
    made, plain = Kept_(), _diffusers.load_parts

    def counted(path: Path, *args: Any, **options: Any) -> Any:
        made.reads.append(path.name)
        return plain(path, *args, **options)

    monkeypatch.setattr(_diffusers, "load_parts", counted)
    monkeypatch.setattr(_diffusers, "KEPT", made.kept)
    return made


def loaded(name: str) -> Any:
    backbone = registry.build_backbone(name, {})
    backbone.load("cpu")
    return backbone


def answer(backbone: Any, net: Any = None) -> torch.Tensor:
    prompt = "a red square"
    x = torch.randn(1, *backbone.latent_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        raw = backbone.predict(net, x, torch.tensor([499]), backbone.encode([prompt])).raw
        return torch.cat([raw.flatten(), backbone.decode(x).float().flatten()])


def disturb(net: Any) -> Any:
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.1
    return net


def student(backbone: Any) -> Any:
    torch.manual_seed(0)
    return disturb(backbone.make_net("student", rank=2))


@pytest.mark.parametrize("name", FAMILIES)
def test_the_next_stage_gets_it_as_it_was_read(name: str, keeper: Kept_, build: Build) -> None:
    plain = build(name)
    expected = answer(plain), answer(plain, student(plain))
    keeper.reads.clear()
    seen: list[Any] = []
    for _ in range(3):
        with keeper.stage():
            backbone = build(name)
            assert torch.equal(answer(backbone), expected[0])
            assert torch.equal(answer(backbone, student(backbone)), expected[1])
            backbone.make_net("other", "copy")
            seen.append(getattr(backbone.pipe, backbone.network))
    assert len(keeper.reads) == 1
    assert len({id(module) for module in seen}) == 3
    first, *others = (
        {p.data_ptr() for n, p in m.named_parameters() if "lora_" not in n} for m in seen
    )
    assert all(first == other for other in others)


@pytest.mark.parametrize("kind", ["lora", "copy"])
def test_written_weights_are_not_kept(kind: Any, keeper: Kept_) -> None:
    expected = answer(loaded("tiny-sd"))
    keeper.reads.clear()
    with keeper.stage():
        backbone = loaded("tiny-sd")
        backbone.replace_teacher(disturb(backbone.make_net("adopted", kind)))
        assert not torch.equal(answer(backbone), expected)
    with keeper.stage():
        assert torch.equal(answer(loaded("tiny-sd")), expected)
    assert len(keeper.reads) == 2


def test_one_stage_that_reads_twice_gets_two(keeper: Kept_) -> None:
    with keeper.stage():
        one, two = loaded("tiny-sd"), loaded("tiny-sd")
        expected = answer(two)
        one.replace_teacher(disturb(one.make_net("adopted")))
        assert torch.equal(answer(two), expected)
    assert len(keeper.reads) == 2


def test_outside_of_stages_nothing_is_kept(keeper: Kept_) -> None:
    loaded("tiny-sd"), loaded("tiny-sd")
    assert len(keeper.reads) == 2


@pytest.mark.parametrize("change", ["device dtype", "another", "scores", "an error"])
def test_what_the_next_stage_does_not_take_is_gone_before_it_reads(
    change: str, keeper: Kept_, build: Build
) -> None:
    with keeper.stage():
        weight = next(loaded("tiny-sd").pipe.unet.parameters())
        old = weakref.ref(weight)
        del weight
    gc.collect()
    assert old() is not None
    if change == "an error":
        with pytest.raises(ValueError, match="of a stage"), keeper.stage():
            raise ValueError("of a stage")
    with keeper.stage(lends=change != "scores"):
        if change == "another":
            build("sd")
        elif change == "device dtype":
            registry.build_backbone("tiny-sd", {}).load("cpu", dtype="bfloat16")
        gc.collect()
        assert old() is None


def test_stages_of_a_run_give_the_same_bytes(tmp_path: Path, keeper: Kept_) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(load_prompts("world-train").prompts[:4]) + "\n")
    training = train_spec("lcm", LCM, backbone="tiny-sd", prompts=str(prompts), updates=2)
    spec = {
        **sample_spec("out", batch_size=2),
        "backbone": training["backbone"],
        "prompts": {"sha256": training["data"]["prompts_sha256"], "n": 2},
    }
    for name, lends in (("plain", False), ("kept", True)):
        keeper.reads.clear()
        for again in ("a", "b"):
            folder = tmp_path / name / again
            with keeper.stage(lends):
                train(training, folder, prompts=str(prompts))
            with keeper.stage(lends):
                context = StageContext("cpu", runtime=Runtime(prompts=str(prompts)))
                (folder / "samples").mkdir()
                sample_stage(
                    SampleSpec.read(spec, of="samples"), context,
                    train_dir=folder / "out", out=folder / "samples",
                )  # fmt: skip
        assert len(keeper.reads) == (1 if lends else 4)
    files = ("out/student.safetensors", "samples/samples-00000.safetensors")
    for file in files:
        found = {p.read_bytes() for p in tmp_path.glob(f"*/*/{file}")}
        assert len(list(tmp_path.glob(f"*/*/{file}"))) == 4
        assert len(found) == 1
