"""Stored samples as picture files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from distillbench.store.layout import Store


def stored(samples: np.ndarray, key: str = "abc", kind: str = "sample") -> Path:
    store = Store(Path("results/store"))
    folder = store.begin(kind, key)
    lines = [{"index": n, "prompt": f"p {n}", "category": ""} for n in range(len(samples))]
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    save_file({"samples": samples}, folder / "samples-00000.safetensors")
    store.commit(folder, kind, key)
    return store.path(kind, key)


PICTURES = np.random.default_rng(0).integers(0, 256, (70, 4, 6, 3), dtype=np.uint8)


def test_pictures_are_written_exactly_with_their_prompts(cli: Any) -> None:
    stored(PICTURES)
    assert cli("samples", "ab", "-o", "out").out == "70 samples in out\n"
    assert (np.asarray(Image.open("out/00069.png")) == PICTURES[69]).all()
    lines = [json.loads(line) for line in Path("out/samples.jsonl").read_text().splitlines()]
    assert lines[3] == {"file": "00003.png", "index": 3, "prompt": "p 3", "category": ""}
    files = cli("samples", "ab", "-o", "few", "--first", "2", "--json").json["files"]
    assert files == ["few/00000.png", "few/00001.png"]


def test_videos_are_gifs(cli: Any) -> None:
    stored(np.random.default_rng(0).integers(0, 256, (1, 5, 8, 8, 3), dtype=np.uint8))
    assert cli("samples", "ab", "-o", "out").code == 0
    assert Image.open("out/00000.gif").n_frames == 5


@pytest.mark.parametrize(
    ("made", "text"),
    [("train", "a train stage"), ("points", "points, not pictures"), ("altered", "altered"),
     ("there", "is there already"), ("none", "no stage with that key")],
)  # fmt: skip
def test_what_cannot_be_written_is_one_line(cli: Any, made: str, text: str) -> None:
    if made != "none":
        points = np.zeros((4, 2), np.float32)
        folder = stored(points if made == "points" else PICTURES,
                        kind="train" if made == "train" else "sample")  # fmt: skip
    if made == "altered":
        path = folder / "samples-00000.safetensors"
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    if made == "there":
        Path("out").mkdir()
    answer = cli("samples", "abc", "-o", "out")
    assert answer.code in (1, 2)
    assert text in answer.err
    assert "Traceback" not in answer.err
    assert made == "there" or not Path("out").exists()
