"""Samples of other tools: which file is of which prompt, how they are read, and their stage."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distillbench.api.prompts import PromptSet
from distillbench.data.given import given_samples, read_sample
from distillbench.data.prompts import load_prompts
from distillbench.errors import BadInput
from distillbench.sample.given import given_stage
from distillbench.specs.context import Runtime, StageContext
from distillbench.specs.stages import IDENTITY_VERSION, GivenSpec
from distillbench.store.layout import Store
from distillbench.store.samples import load_samples

PROMPTS = PromptSet("p", ("one", "two", "three", "four"), ("",) * 4)
STYLED = PromptSet("s", ("a", "b", "c", "d"), ("animation", "photo") * 2)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTILLBENCH_CACHE", str(tmp_path / "cache"))


def pictures(folder: Path, *names: str, size: tuple[int, int] = (6, 4)) -> Path:
    """One of a grey level for each name: its place among them."""
    folder.mkdir(parents=True, exist_ok=True)
    for level, name in enumerate(names):
        Image.new("RGB", size, (level, level, level)).save(folder / name)
    return folder


def levels(root: Path, prompts: PromptSet = PROMPTS, n: int = 4) -> list[int]:
    """Which picture each prompt got."""
    found = given_samples(root, prompts, n)
    return [int(read_sample(root / file)[0, 0, 0]) for file in found.files]


def said(root: Path, prompts: PromptSet = PROMPTS, n: int = 4) -> str:
    with pytest.raises(BadInput) as caught:
        given_samples(root, prompts, n)
    return str(caught.value)


def test_files_follow_the_prompts_by_the_numbers_in_their_names(tmp_path: Path) -> None:
    root = pictures(tmp_path / "p", "x10.png", "x9.png", "x100.png", "x0.png")
    (root / "prompts.txt").write_text("beside")
    (root / ".hidden").write_text("")
    assert levels(root) == [3, 1, 0, 2]
    assert levels(root, n=2) == [3, 1]


def test_a_short_set_is_cycled(tmp_path: Path) -> None:
    root = pictures(tmp_path / "p", *(f"{i}.png" for i in range(8)))
    assert levels(root, n=8) == [0, 1, 2, 3, 4, 5, 6, 7]
    for n in (4, 6):  # two files a prompt, in whatever order: which are of the first prompts?
        assert f"8 files for {n} samples" in said(root, n=n)


@pytest.mark.parametrize("name", ["samples.jsonl", "captions.jsonl"])
def test_a_list_says_which_is_which(name: str, tmp_path: Path) -> None:
    root = pictures(tmp_path / "p", "a.png", "b.png", "c.png", "d.png", "e.png")
    key = "prompt" if name.startswith("samples") else "text"
    rows = zip("abcde", ("four", "two", "three", "one", "one"), strict=True)
    lines = [json.dumps({"file": f"{f}.png", key: p}) for f, p in rows]
    (root / name).write_text("\n".join(lines))
    assert levels(root) == [3, 1, 2, 0]
    assert levels(root, n=5)[4] == 4
    (root / name).write_text("\n".join(lines[1:3]))
    assert "2 of 4 prompts have no file ('one', 'four')" in said(root)


def test_names_may_be_prompts(tmp_path: Path) -> None:
    root = pictures(
        tmp_path / "p", "four-0.png", "one-0.png", "three.png", "two-0.png", "two-1.png"
    )
    assert levels(root) == [1, 3, 2, 0]
    pictures(root, "x.png")
    assert "names of files are prompts, but for 1: x.png" in said(root)


def test_folders_may_be_categories(tmp_path: Path) -> None:
    pictures(tmp_path / "p/anime", "0.png", "1.png")  # as HPSv2's benchmark calls it
    pictures(tmp_path / "p/photo", "x.png", "0.png", "1.png")
    (tmp_path / "p/photo/x.png").unlink()
    assert levels(tmp_path / "p", STYLED) == [0, 1, 1, 2]
    assert levels(tmp_path / "p", STYLED, 2) == [0, 1]
    (tmp_path / "p/photo").rename(tmp_path / "p/photos")
    assert "no folder for the category photo" in said(tmp_path / "p", STYLED)


def test_numbers_do_not_name_prompts_that_stand_otherwise_in_their_file(tmp_path: Path) -> None:
    """Another tool goes through a file from top to bottom, where we take categories in turn."""
    rows = {"one": "a", "two": "a", "three": "b", "four": "b"}
    text = "".join(f"{prompt},{category}\n" for prompt, category in rows.items())
    (tmp_path / "p.csv").write_text(f"prompt,category\n{text}")
    prompts = load_prompts(str(tmp_path / "p.csv"))
    root = pictures(tmp_path / "p", "0.png", "1.png", "2.png", "3.png")
    assert prompts.prompts == ("one", "three", "two", "four")
    assert "the order of its files does not say which is of which prompt" in said(root, prompts)
    lines = [json.dumps({"file": f"{i}.png", "prompt": p}) for i, p in enumerate(rows)]
    (root / "samples.jsonl").write_text("\n".join(lines))
    assert levels(root, prompts) == [0, 2, 1, 3]
    (root / "samples.jsonl").unlink()
    alone = pictures(tmp_path / "a", "0.png", "1.png")
    assert levels(alone, load_prompts(f"{tmp_path}/p.csv:a"), 2) == [0, 1]
    in_turn = "one,a\nthree,b\ntwo,a\nfour,b\n"
    (tmp_path / "p.csv").write_text(f"prompt,category\n{in_turn}")
    assert levels(root, load_prompts(str(tmp_path / "p.csv"))) == [0, 1, 2, 3]


def test_what_pictures_become(tmp_path: Path) -> None:
    Image.new("L", (4, 4), 7).save(tmp_path / "grey.png")
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.fromarray(np.full((4, 4), 65535, np.uint16)).save(tmp_path / "deep.png")
    shown = [read_sample(tmp_path / f"{name}.png")[0, 0] for name in ("grey", "clear", "deep")]
    assert [list(value) for value in shown] == [[7] * 3, [255] * 3, [255] * 3]


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ((), "no pictures or videos in it"),
        (("0.png", "1.png", "2.png"), "3 files for 4 samples; in the order of their names"),
        (("0.png", "1.png", "2.png", "3.png", "4.png"), "5 files for 4 samples"),
        (("0.png", "1.png", "2.png", "2.jpg"), "files of one name: 2.jpg, 2.png"),
    ],
)
def test_what_cannot_be_led_to_prompts_is_one_line(
    names: tuple[str, ...], text: str, tmp_path: Path
) -> None:
    assert text in said(pictures(tmp_path / "p", *names))


def test_what_cannot_be_read_is_a_line_each(tmp_path: Path) -> None:
    root = pictures(tmp_path / "p", *(f"{i}.png" for i in range(4)))
    whole = (root / "1.png").read_bytes()
    (root / "1.png").write_bytes(whole[:-20])
    (root / "2.png").write_bytes(b"")
    lines = said(root).splitlines()
    assert [line.split(": ")[0] for line in lines] == [f"{root}/1.png", f"{root}/2.png"]
    (root / "1.png").write_bytes(whole)
    pictures(root, "2.png", size=(4, 4))
    assert "alike in size and length; picture 6x4: 0.png, 1.png, 3.png; picture 4x4" in said(root)
    (root / "a.psd").write_text("")
    assert "a.psd: no picture or video" in said(root)
    assert "no folder" in said(root / "gone")
    assert "is no folder" in said(root / "0.png")


def test_videos(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 6), (40 * i, 0, 0)) for i in range(5)]
    for name in "0123":
        frames[0].save(tmp_path / f"{name}.gif", save_all=True, append_images=frames[1:])
    found = given_samples(tmp_path, PROMPTS, 4)
    assert (found.modality, found.looks) == ("video", "video of 5 frames 8x6")
    assert [int(f[0, 0, 0]) for f in read_sample(tmp_path / "0.gif")] == [0, 40, 80, 120, 160]
    (tmp_path / "3.gif").rename(tmp_path / "3.mp4")
    text = said(tmp_path)
    assert ("cannot be decoded" if find_spec("av") else "need a decoder of videos") in text


def test_content_decides_and_names_do_not(tmp_path: Path) -> None:
    one = given_samples(pictures(tmp_path / "a", *["0.png", "1.png", "2.png", "3.png"]), PROMPTS, 4)
    two = given_samples(pictures(tmp_path / "b", *["p.png", "q.png", "r.png", "s.png"]), PROMPTS, 4)
    assert one.sha256 == two.sha256
    pictures(tmp_path / "b", "p.png", "q.png", "s.png", "r.png")
    assert given_samples(tmp_path / "b", PROMPTS, 4).sha256 != one.sha256


def test_they_are_kept_as_those_of_a_student(tmp_path: Path) -> None:
    chosen = load_prompts("gmm-eval")
    root = pictures(tmp_path / "p", *(f"{i}.png" for i in range(8)))
    found = given_samples(root, chosen, 8)
    spec = GivenSpec.read(
        {"identity": IDENTITY_VERSION, "samples_sha256": found.sha256, "seed": 3,
         "prompts": {"sha256": chosen.sha256, "n": 8}}, of="a test",
    )  # fmt: skip
    told = Runtime(prompts="gmm-eval", samples=str(root))
    store = Store(tmp_path / "store")
    out = store.begin("sample", "k")
    given_stage(spec, StageContext(runtime=told), out=out)
    kept = load_samples(store.commit(out, "sample", "k"))
    assert kept.prompts == list(chosen.prompts)
    assert kept.data.shape == (8, 4, 6, 3)
    assert kept.data[:, 0, 0, 0].tolist() == list(range(8))
    pictures(root, "1.png", "0.png")
    with pytest.raises(BadInput, match="not the samples that this run was planned with"):
        given_stage(spec, StageContext(runtime=told), out=store.begin("sample", "k2"))
