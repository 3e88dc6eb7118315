"""Rows that keep their samples as files: which, where, and once."""

from __future__ import annotations

import dataclasses
import json
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from distillbench.data.moving import read_frames
from distillbench.errors import BadInput
from distillbench.plan.stage import Cell
from distillbench.report.kept import keep_samples

PICTURES = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)
# Two videos of a grey gradient that fades, of an odd width; the second is darker.
VIDEOS = np.tile(np.arange(33, dtype=np.uint8)[:, None] * 7, (2, 3, 24, 1, 3))
VIDEOS[1] //= 2
VIDEOS += np.arange(3, dtype=np.uint8)[:, None, None, None] * 8
CELL = Cell(
    row=0, label="TDM: 50 %/x", group="", method="tdm", title="TDM", backbone="b", nfe=4, seed=1,
    guidance_scale=1.0, updates=1, final=True, ranked=True, train="t", sample="0123456789",
    scores={}, settings={"sample.keep": "png"},
)  # fmt: skip


class Stored:
    """A store of sample stages in one folder each."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, key: str, samples: np.ndarray) -> None:
        self.path("sample", key).mkdir()
        save_file({"samples": samples}, self.path("sample", key) / "samples-00000.safetensors")
        lines = [json.dumps({"index": i, "prompt": f"p{i}"}) for i in range(len(samples))]
        (self.path("sample", key) / "samples.jsonl").write_text("\n".join(lines))

    def path(self, kind: str, key: str) -> Path:
        return self.root / key

    def is_done(self, kind: str, key: str) -> bool:
        return self.path(kind, key).is_dir()


def kept(store: Stored, out: Path, **fields: Any) -> list[Path]:
    plan = SimpleNamespace(cells=[dataclasses.replace(CELL, **fields)])
    report: Any = SimpleNamespace(results=SimpleNamespace(store=store, plan=plan))
    return keep_samples(report, out)


def near(found: np.ndarray, wanted: np.ndarray) -> bool:
    """Both formats lose a little."""
    apart = np.abs(found.astype(int) - wanted)
    return found.shape == wanted.shape and float(apart.mean()) < 3


def test_pictures_come_with_their_prompts_and_once(tmp_path: Path) -> None:
    store, out = Stored(tmp_path), tmp_path / "out"
    assert kept(store, out) == []
    store.put(CELL.sample, PICTURES)
    assert kept(store, out, settings={"sample.keep": ""}) == []
    (made,) = kept(store, out)
    assert made.parent.name == "TDM-50-x-nfe4-seed1-01234567"
    lines = [json.loads(line) for line in made.read_text().splitlines()]
    assert lines[3] == {"file": "00003.png", "index": 3, "prompt": "p3"}
    assert (np.asarray(Image.open(made.parent / "00004.png")) == PICTURES[4]).all()
    (made.parent / "00004.png").write_bytes(b"")
    assert kept(store, out) == [made]
    assert (made.parent / "00004.png").read_bytes() == b""  # complete, and left alone
    made.unlink()
    assert kept(store, out) == [made]
    assert (made.parent / "00004.png").read_bytes()


def test_videos_are_gifs_unless_mp4_is_asked_for(tmp_path: Path) -> None:
    store = Stored(tmp_path)
    store.put(CELL.sample, VIDEOS)
    (made,) = kept(store, tmp_path / "gif")
    assert near(read_frames(made.parent / "00001.gif"), VIDEOS[1])
    if find_spec("av") is None:
        with pytest.raises(BadInput, match="MP4 is written by PyAV"):
            kept(store, tmp_path / "mp4", settings={"sample.keep": "mp4"})
        return
    (made,) = kept(store, tmp_path / "mp4", settings={"sample.keep": "mp4"})
    frames = read_frames(made.parent / "00001.mp4")  # its sides are even
    assert frames.shape == (3, 24, 34, 3)
    assert near(frames[:, :, :33], VIDEOS[1])


def test_points_are_no_pictures(tmp_path: Path) -> None:
    store = Stored(tmp_path)
    store.put(CELL.sample, np.zeros((3, 2), np.float32))
    with pytest.raises(BadInput, match="points, not pictures"):
        kept(store, tmp_path / "out")
