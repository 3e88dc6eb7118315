"""Batches made ahead, and networks that rest during the steps: as a GPU's training does it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from distillbench.api import backbone as api
from distillbench.api import registry
from distillbench.backbones._resting import Resting
from distillbench.data import latents as kept
from distillbench.data.ahead import Ahead
from distillbench.data.batches import DataSource
from distillbench.data.imageset import images_identity
from distillbench.data.prompts import load_prompts
from distillbench.errors import BadInput, Interrupted
from distillbench.testing.method import train, train_spec
from distillbench.train import feed

TURNS = {"tdm": {"nets": "copy"}, "dmd2": {"nets": "copy"}, "lcm": {"nets": "copy"}}


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever rests has no numbers any more, so that nothing could call it unnoticed."""
    monkeypatch.setattr(api, "RESTING_PLACE", "meta")


def student(folder: Path) -> bytes:
    return (folder / "out" / "student.safetensors").read_bytes()


def few(folder: Path) -> str:
    """A file with some prompts of the tiny worlds."""
    path = folder / "prompts.txt"
    path.write_text("\n".join(load_prompts("world-train").prompts[:4]) + "\n")
    return str(path)


class Source:
    """Makes keys of keys, and may fail."""

    def __init__(self, bad: int = -1) -> None:
        self.bad, self.by = bad, list[str]()

    def batch(self, step: int, micro: int, repeat: int = 0) -> Any:
        self.by.append(threading.current_thread().name)
        if step == self.bad:
            raise BadInput(f"picture {step} cannot be read")
        return step, micro, repeat


def counted(last: int) -> Iterator[Any]:
    return ((step, 0, 0) for step in range(last))


@pytest.mark.parametrize("name", TURNS)
def test_keys_are_what_the_loop_asks_for(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    plain = DataSource.batch

    def batch(self: DataSource, *key: int) -> Any:
        asked.append(key)
        return plain(self, *key)

    monkeypatch.setattr(DataSource, "batch", batch)
    train(train_spec(name, TURNS[name], updates=3, accumulate=2), tmp_path)
    method = registry.build_method(name, TURNS[name], registry.build_backbone("gmm", {}))
    assert asked == list(feed.keys(method, range(2), range(3)))
    assert list(feed.keys(method, range(1, 4, 2), range(2, 3)))[:2] == [(2, 1, 0), (2, 3, 0)]


@pytest.mark.parametrize("name", TURNS)
def test_a_thread_ahead_changes_no_byte(name: str, tmp_path: Path, apart: None) -> None:
    spec = train_spec(name, TURNS[name], updates=6, accumulate=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api, "RESTING_PLACE", "cpu")
        train(spec, tmp_path / "plain")
    train(spec, tmp_path / "ahead")
    with pytest.raises(Interrupted):
        train(spec, tmp_path / "stopped", stop_after=4)
    train(spec, tmp_path / "stopped")
    assert student(tmp_path / "plain") == student(tmp_path / "ahead")
    assert student(tmp_path / "plain") == student(tmp_path / "stopped")
    assert "batches" not in {thread.name for thread in threading.enumerate()}


def test_batches_come_from_the_thread_in_their_order() -> None:
    source = Source()
    with Ahead(source.batch, counted(5)) as ahead:
        assert [ahead.batch(step, 0) for step in range(5)] == list(counted(5))
    assert set(source.by) == {"batches"}


@pytest.mark.parametrize("key", [(3, 0, 0), (0, 1, 0), (9, 9, 9)])
def test_another_order_is_served_by_the_caller(key: Any) -> None:
    source = Source()
    with Ahead(source.batch, counted(2)) as ahead:
        assert ahead.batch(*key) == key
        assert ahead.batch(1, 0) == (1, 0, 0)
    assert source.by[-2:] == ["MainThread"] * 2


def test_more_than_was_said_is_served_by_the_caller() -> None:
    with Ahead(Source().batch, counted(1)) as ahead:
        assert [ahead.batch(step, 0)[0] for step in range(3)] == [0, 1, 2]


def test_what_the_thread_meets_is_raised_where_the_batch_is_asked_for() -> None:
    with Ahead(Source(bad=2).batch, counted(5)) as ahead:
        assert ahead.batch(0, 0) == (0, 0, 0)
        assert ahead.batch(1, 0) == (1, 0, 0)
        with pytest.raises(BadInput, match="picture 2 cannot be read"):
            ahead.batch(2, 0)


def test_a_batch_that_cannot_be_made_is_one_line_of_the_stage(
    tmp_path: Path, apart: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = DataSource.batch

    def batch(self: DataSource, step: int, *rest: int) -> Any:
        if step == 3:
            raise BadInput("no picture 3")
        return plain(self, step, *rest)

    monkeypatch.setattr(DataSource, "batch", batch)
    with pytest.raises(BadInput, match="no picture 3"):
        train(train_spec("lcm", TURNS["lcm"], updates=6), tmp_path, save_every=2)
    assert [p.name for p in sorted((tmp_path / "checkpoints").glob("step-*"))] == ["step-00000002"]


def devices(module: Any) -> set[str]:
    return {p.device.type for p in module.parameters()}


def seen_devices(monkeypatch: pytest.MonkeyPatch) -> list[tuple[set[str], set[str], set[str]]]:
    """Devices of text encoder, autoencoder and network at every step."""
    seen: list[Any] = []
    plain = DataSource.batch

    def batch(self: DataSource, *key: int) -> Any:
        pipe = self.backbone.pipe  # type: ignore[attr-defined]
        seen.append(tuple(map(devices, (pipe.text_encoder, pipe.vae, pipe.unet))))
        return plain(self, *key)

    monkeypatch.setattr(DataSource, "batch", batch)
    return seen


@pytest.mark.parametrize(
    ("updates", "text", "name"), [(3, "meta", "tdm"), (1, "cpu", "tdm"), (3, "meta", "lcm")]
)
def test_encoders_rest_where_all_is_encoded(
    updates: int, text: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = few(tmp_path)
    spec = train_spec(
        name, {"rank": 2}, backbone="tiny-sd", prompts=prompts, updates=updates, batch_size=2
    )
    train(spec, tmp_path / "plain", prompts=prompts)
    monkeypatch.setattr(api, "RESTING_PLACE", "meta")
    seen = seen_devices(monkeypatch)
    train(spec, tmp_path / "resting", prompts=prompts)
    autoencoder = "cpu" if name == "lcm" else "meta"  # its world makes latents at every step
    assert seen == [({text}, {autoencoder}, {"cpu"})] * len(seen)
    assert student(tmp_path / "plain") == student(tmp_path / "resting")


@pytest.mark.parametrize("writes", [True, False])
def test_an_autoencoder_rests_once_its_latents_are_found_again(
    writes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(3):
        Image.new("RGB", (32, 32), (80 * i, 0, 0)).save(pictures / f"{i}.png")
    words = load_prompts("world-train").prompts
    rows = [{"file": f"{i}.png", "text": words[i]} for i in range(3)]
    (pictures / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    spec = train_spec("lcm", {"rank": 2}, backbone="tiny-sd", updates=2, batch_size=2)
    fit = {"resize": "center-crop", "background": "white", "latents": "sample", "flip": True}
    spec["data"] = {
        "prompts_sha256": "", "images_sha256": images_identity(pictures), "fit": fit,
    }  # fmt: skip
    monkeypatch.setenv("DISTILLBENCH_CACHE", str(tmp_path / "cache"))
    if not writes:
        monkeypatch.setattr(kept, "MEMORY_BYTES", 0)
        (tmp_path / "cache").write_text("a file where the folder would be")
    train(spec, tmp_path / "plain", images=str(pictures))
    monkeypatch.setattr(api, "RESTING_PLACE", "meta")
    seen = seen_devices(monkeypatch)
    train(spec, tmp_path / "resting", images=str(pictures))
    assert seen == [({"meta"}, {"meta" if writes else "cpu"}, {"cpu"})] * len(seen)
    assert student(tmp_path / "plain") == student(tmp_path / "resting")


def test_a_stop_is_heard_while_all_is_encoded(tmp_path: Path, apart: None) -> None:
    prompts = few(tmp_path)
    spec = train_spec("tdm", {"rank": 2}, backbone="tiny-sd", prompts=prompts, updates=9)
    with pytest.raises(Interrupted, match="after step 0 of 9"):
        train(spec, tmp_path, prompts=prompts, stop_after=0)


class Module:
    """Remembers its devices."""

    def __init__(self) -> None:
        self.been = ["cuda:0"]

    @property
    def device(self) -> torch.device:
        return torch.device(self.been[-1])

    def to(self, device: Any) -> None:
        self.been.append(str(device))


def test_who_rests_comes_back_where_it_is_called() -> None:
    module = Module()
    resting = Resting(module)
    assert resting.awake() is module
    resting.rest()
    assert resting.awake() is module
    resting.awake()
    assert module.been == ["cuda:0", "cpu", "cuda:0"]
