"""Caption files and the pictures they name are looked at whole before anything is trained."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from distillbench.data import looked_at as module
from distillbench.data.captions import picture_problems, read_captions
from distillbench.errors import BadInput


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DISTILLBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "pictures"
    made.mkdir()
    Image.new("RGB", (4, 4)).save(made / "a.png")
    return made


def write(folder: Path, text: str | bytes) -> Path:
    raw = text.encode() if isinstance(text, str) else text
    (folder / "captions.jsonl").write_bytes(raw)
    return folder


A = '{"file": "a.png", "text": "a \u2028 cat"}'


@pytest.mark.parametrize(
    "text", [A, A + "\n", A + "\r\n", "\ufeff" + A, "\n\r\n" + A + "\n\n \n"], ids=ascii
)
def test_line_ends_and_byte_order_marks(folder: Path, text: str) -> None:
    found = read_captions(write(folder, text))
    assert found.texts == ("a \u2028 cat",)
    assert found.paths == (folder / "a.png",)
    assert picture_problems(found) == []


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"file": "a.png", "text": null}', "the caption is null, not a string"),
        ('{"file": "a.png", "text": NaN}', "the caption is the number nan, not a string"),
        ('{"file": "a.png", "text": ["a", "b"]}', "the caption is a list, not a string"),
        ('{"file": "a.png", "text": {"a": 1}}', "the caption is an object, not a string"),
        ('{"file": "a.png", "text": true}', "the caption is true, not a string"),
        ('{"file": "a.png", "text": 3}', "the caption is the number 3, not a string"),
        ('{"file": "a.png", "text": "\\ud800"}', "the caption holds half a character"),
        ('{"file": "a.png", "text": "a", "text": "b"}', "the key 'text' comes twice"),
        ('{"file": "a.png"}', "line 3 needs the keys file and text; it lacks text"),
        ('{"file": 3, "text": "a"}', "the file is the number 3, not a string"),
        ('{"file": "../a.png", "text": "a"}', "no path inside the folder"),
        ('{"file": "/a.png", "text": "a"}', "no path inside the folder"),
        ('{"file": "", "text": "a"}', "no path inside the folder"),
        ('["a.png", "a"]', "not an object with the keys file and text, but a list"),
        ("3", "but the number 3"),
        ("{", "no JSON: .* column 2"),
        ("[" * 100_000, "nested too deeply"),
        ('{"file": "a.png", "text": ' + "9" * 5000 + "}", "digits"),
    ],
    ids=lambda text: text[:40],
)
def test_each_bad_line_is_named(folder: Path, row: str, message: str) -> None:
    write(folder, f"{A}\n\n{row}\n{A}\n")
    with pytest.raises(BadInput, match=rf"captions\.jsonl:3: .*{message}"):
        read_captions(folder)


def test_all_bad_lines_are_told_together(folder: Path) -> None:
    bad = ["null", "NaN", '["a", "b"]', "3"]
    write(folder, "".join(f'{{"file": "a.png", "text": {text}}}\n' for text in bad))
    with pytest.raises(BadInput) as caught:
        read_captions(folder)
    assert [line.split(":")[1] for line in str(caught.value).splitlines()] == ["1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "holds no captions"),
        (b"\n \n", "holds no captions"),
        (A.encode("utf-16"), "UTF-16; save it as UTF-8"),
        (A.encode("utf-16-le"), "NUL bytes"),
        (b'\n{"file": "a.png", "text": "caf\xe9"}', r"line 2 is not UTF-8 text \(byte 0xe9\)"),
    ],
)
def test_unreadable_files(folder: Path, raw: bytes, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        read_captions(write(folder, raw))


def test_odd_files_in_its_place(folder: Path) -> None:
    index = folder / "captions.jsonl"
    index.mkdir()
    with pytest.raises(BadInput, match="cannot be read as captions: a folder"):
        read_captions(folder)
    index.rmdir()
    os.mkfifo(index)
    with pytest.raises(BadInput, match="not a regular file"):
        read_captions(folder)


def test_what_is_not_read_is_known(folder: Path) -> None:
    rows = [{"file": "a.png", "text": "", "width": 4}, {"file": "a.png", "text": "a", "url": "b"}]
    found = read_captions(write(folder, "\n".join(map(json.dumps, rows))))
    assert (found.unread, found.empty) == (("width", "url"), 1)


def test_every_bad_picture_is_named_and_remembered(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = Image.effect_noise((64, 64), 100)
    noise.save(folder / "cut.png")
    (folder / "cut.png").write_bytes((folder / "cut.png").read_bytes()[:400])
    (folder / "text.png").write_text("no")
    files = ["a.png", "cut.png", "text.png", "none.png", "none.png"]
    write(folder, "\n".join(json.dumps({"file": f, "text": f}) for f in files))
    found = read_captions(folder)
    lines = picture_problems(found)
    assert [line.partition(":")[0] for line in lines] == [
        str(folder / name) for name in ("cut.png", "text.png", "none.png")
    ]
    opened: list[str] = []
    real = module.open_picture
    monkeypatch.setattr(module, "open_picture", lambda path: opened.append(path.name) or real(path))
    assert picture_problems(found) == lines
    assert opened == ["none.png"]
    noise.save(folder / "cut.png")
    assert len(picture_problems(found)) == 2
    assert sorted(opened) == ["cut.png", "none.png", "none.png"]
