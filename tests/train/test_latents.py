"""Latents of pictures: encoded once, kept by content, drawn as asked, whatever the disk does."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from distillbench.data import latents
from distillbench.data.batches import ImageFolder
from distillbench.data.latents import Latents, Rows

SHAPE = (2, 3, 3)


class Coder:
    """A backbone whose latents are corners of pictures; it counts what it encodes."""

    latent_shape, device, name = SHAPE, "cpu", "coder"

    def __init__(self, weights: str = "a") -> None:
        self.weights, self.seen = weights, list[int]()

    def latents_identity(self) -> str:
        return self.weights

    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(images))
        return images[:, :3, :3, :2].permute(0, 3, 1, 2).float() + len(self.weights)

    def encode_posterior(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean = self.encode_images(images)
        return mean, torch.full_like(mean, 0.5)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four pictures with captions, and a cache of the test's own."""
    monkeypatch.setenv("DISTILLBENCH_CACHE", str(tmp_path / "cache"))
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(4):
        picture = Image.new("RGB", (4, 4), (i, 50, 0))
        picture.putpixel((0, 0), (100 + i, 0, 0))
        picture.save(pictures / f"{i}.png")
    rows = [{"file": f"{i}.png", "text": str(i)} for i in range(4)]
    (pictures / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return pictures


def kept(folder: Path, coder: Coder, **told: Any) -> Latents:
    options = {"content": "c", "sample": False, "flip": False, "tell": lambda text: None, **told}
    return Latents(coder, ImageFolder(folder), **options)  # type: ignore[arg-type]


def test_a_picture_is_encoded_once_alone_and_by_content(folder: Path) -> None:
    first = Coder()
    ours = kept(folder, first)
    made = ours.batch([0, 1, 0, 1, 1], ("k",))
    assert first.seen == [1, 1]
    again = Coder()
    assert torch.equal(kept(folder, again).batch([0, 1, 0, 1, 1], ("k",)), made)
    assert again.seen == []  # another process finds them on disk
    for told, weights in (({"content": "d"}, "a"), ({}, "bb"), ({"content": ""}, "a")):
        other = Coder(weights)
        kept(folder, other, **told).batch([0], ("k",))
        assert other.seen == [1]


def test_a_sample_is_drawn_anew_and_a_mode_is_not(folder: Path) -> None:
    mode, drawn = kept(folder, Coder()), kept(folder, Coder(), sample=True)
    indices = [i % 4 for i in range(400)]
    a, b = (drawn.batch(indices, ("train", step)) for step in (0, 1))
    assert not torch.equal(a, b)
    assert torch.equal(a, drawn.batch(indices, ("train", 0)))
    noise = (a - mode.batch(indices, ("x",))) / 0.5
    assert abs(float(noise.mean())) < 0.05
    assert abs(float(noise.std()) - 1) < 0.05


def test_flips_are_drawn_and_encoded_as_pictures(folder: Path) -> None:
    coder = Coder()
    ours, plain = kept(folder, coder, flip=True), kept(folder, Coder())
    batch = ours.batch([2] * 64, ("k",))
    straight = plain.batch([2], ("k",))[0]
    flipped = (batch != straight).flatten(1).any(1)
    assert 16 < int(flipped.sum()) < 48
    assert coder.seen == [1, 1]
    assert float(batch[flipped][0][0, 0, 0]) == 2 + 1  # the marked corner is at the other side
    assert torch.equal(batch, ours.batch([2] * 64, ("k",)))


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "moved"])
def test_a_damaged_row_is_made_anew(folder: Path, damage: str) -> None:
    made = kept(folder, Coder()).batch([0, 1, 2], ("k",))
    (path,) = (folder.parent / "cache" / "latents").iterdir()
    raw = bytearray(path.read_bytes())
    size = len(raw) // 3
    if damage == "flip":
        raw[size + 20] ^= 1
    elif damage == "cut":
        del raw[-3:]
    elif damage == "empty":
        raw[size : 2 * size] = bytes(size)
    else:
        raw[size : 2 * size] = raw[:size]
    path.write_bytes(bytes(raw))
    coder = Coder()
    assert torch.equal(kept(folder, coder).batch([0, 1, 2], ("k",)), made)
    assert coder.seen == [1]
    coder.seen.clear()
    kept(folder, coder).batch([0, 1, 2], ("k",))
    assert coder.seen == []


def full(*args: Any) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("trouble", ["full", "short", "folder", "read-only"])
def test_a_disk_that_takes_nothing_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    expected = kept(folder, Coder(), content="").batch([0, 1, 2, 3], ("k",))
    if trouble == "full":
        monkeypatch.setattr(os, "pwrite", full)
    elif trouble == "short":
        calls = iter([lambda *args: 7])
        monkeypatch.setattr(os, "pwrite", lambda *args: next(calls, full)(*args))
    elif trouble == "folder":
        (folder.parent / "cache").write_text("a file in its place")
    else:
        kept(folder, Coder()).batch([0], ("k",))
        opened = os.open

        def refusing(path: Any, flags: int, *mode: int) -> int:
            if flags & os.O_RDWR:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            return opened(path, flags, *mode)

        monkeypatch.setattr(os, "open", refusing)
    told, coder = list[str](), Coder()
    ours = kept(folder, coder, tell=told.append)
    assert torch.equal(ours.batch([0, 1, 2, 3], ("k",)), expected)
    assert torch.equal(ours.batch([3, 2, 1, 0], ("k",)), expected.flip(0))
    assert len(coder.seen) == (3 if trouble == "read-only" else 4)  # nothing that was kept is lost
    assert len(told) == 1
    assert told[0].startswith(f"latents are not kept on disk: {folder.parent / 'cache'}")
    assert "\n" not in told[0]


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latents, "MEMORY_BYTES", 8)
    rows = Rows(None, "i", 4, lambda text: None)
    for i in range(4):
        rows.put(i, bytes([i] * 4))
    assert [rows.get(i) is None for i in range(4)] == [False, False, True, True]
    rows = Rows(tmp_path / "rows", "i", 4, lambda text: None)
    for i in range(4):
        rows.put(i, bytes([i] * 4))
    assert [rows.get(i) for i in range(4)] == [bytes([i] * 4) for i in range(4)]
    assert Rows(tmp_path / "rows", "j", 4, lambda text: None).get(0) is None
