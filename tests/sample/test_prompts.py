"""Prompt sets by name and from files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from distillbench.api.prompts import PromptSet
from distillbench.data.prompts import load_prompts, prompt_file, prompt_identity
from distillbench.errors import BadInput
from distillbench.world.prompts import prompt_set


def test_world_sets_keep_their_identity() -> None:
    world = prompt_set("world-eval")
    assert load_prompts("world-eval").sha256 == world.sha256 == prompt_identity("world-eval")


def test_gmm_sets_name_the_eight_conditions() -> None:
    loaded = load_prompts("gmm-train")
    assert loaded.prompts[0] == "condition 0"
    assert len(loaded) == len(set(loaded.prompts)) == 8


def test_named_sets_are_interleaved_and_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISTILLBENCH_DATA", str(tmp_path))
    assert prompt_identity("hpsv2") == "missing:hpsv2"
    with pytest.raises(BadInput, match="'hpsv2' is not on this disk"):
        load_prompts("hpsv2")
    folder = tmp_path / "prompts" / "hpsv2"
    folder.mkdir(parents=True)
    (folder / "anime.json").write_text(json.dumps(["a1", "a2"]))
    (folder / "paintings.json").write_text(json.dumps(["p1", "p2", "p3"]))
    loaded = load_prompts("hpsv2")
    assert loaded.prompts == ("a1", "p1", "a2", "p2", "p3")
    assert loaded.categories == ("animation", "painting", "animation", "painting", "painting")
    assert prompt_identity("hpsv2") == loaded.sha256


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("a.txt", "one\n\n two \n", [("one", ""), ("two", "")]),
        ("a.json", '["one", "two"]', [("one", ""), ("two", "")]),
        ("a.json", '{"x": ["one", "two"], "y": ["three"]}',
         [("one", "x"), ("three", "y"), ("two", "x")]),
        ("a.jsonl", '{"prompt": "one", "category": "x"}\n"two"\n', [("one", "x"), ("two", "")]),
        ("a.txt", "a\u2028b\nc\x0cd\x1ce\x85f\r\n", [("a\u2028b", ""), ("c\x0cd\x1ce\x85f", "")]),
        ("a.jsonl", '{"prompt": "a\u2028b"}\r\n\r\n"c\x85"\r\n', [("a\u2028b", ""), ("c\x85", "")]),
        ("a.TXT", "\ufeffone\n", [("one", "")]),
        ("a.json", '\ufeff["one"]', [("one", "")]),
        ("a.jsonl", '\ufeff"one"', [("one", "")]),
        ("a.csv", '\ufeffPrompt,Category\n"one, two",x\n\n"three ""3""\nlines",\n',
         [("one, two", "x"), ('three "3"\nlines', "")]),
        ("a.tsv", "id\tprompts\r\n1\tone\r\n2\ttwo, three\r\n",
         [("one", ""), ("two, three", "")]),
        ("a.json", '{"x": ["one"], "y": ["two"], "x": ["three"]}',
         [("one", "x"), ("two", "y"), ("three", "x")]),
    ],
)  # fmt: skip
def test_files(tmp_path: Path, file: str, text: str, expected: list[tuple[str, str]]) -> None:
    (tmp_path / file).write_text(text)
    loaded = load_prompts(str(tmp_path / file))
    assert list(zip(loaded.prompts, loaded.categories, strict=True)) == expected


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("a.json", "[1]", "not a list of prompts"),
        ("a.json", "{", "not a list of prompts"),
        ("a.jsonl", '{"text": "one"}', "not a list of prompts"),
        ("a.txt", "\n", "holds no prompts"),
        ("a.txt", "one\rtwo\r", r"a\.txt:1: a carriage return inside a line"),
        ("a.json", '["a", null]', "entry 2: the prompt is null, not a string"),
        ("a.json", '["a", " "]', "entry 2: the prompt is empty"),
        ("a.json", '["\\ud83d"]', "half a character"),
        ("a.json", '"one"', "'one' where a list is needed"),
        ("a.json", '{"x": "one"}', "'x': 'one' where a list is needed"),
        ("a.json", '{"x": {"y": ["one"]}}', "an object where a list is needed"),
        ("a.json", '{"x": [{"prompt": "one", "category": "y"}]}', "category of its own"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.json", "[" + "9" * 5000 + "]", "digits"),
        ("a.jsonl", '"a"\n\n{"prompt": "b", "prompt": "c"}', r"jsonl:3: .*comes twice"),
        ("a.jsonl", '{"prompt": "a", "category": null}', "the category is null"),
        ("a.jsonl", '["a"]', "the prompt is a list"),
        ("a.csv", "text\na\n", r"a\.csv:1: no column is called prompt; the header has 'text'"),
        ("a.csv", "prompt,Prompts\na,b\n", "several columns are called prompt"),
        ("a.csv", "prompt,x\na\n", r"a\.csv:2: 1 cells, the header has 2"),
        ("a.csv", "prompt,x\n,1\n", r"a\.csv:2: the prompt is empty"),
        ("a.csv", 'prompt\n"a\n', r"a\.csv:2: not a table"),
        ("a.csv", 'prompt\n"a"b\n', r"a\.csv:2: not a table"),
        ("a.csv", "", "holds no prompts"),
    ],
)
def test_bad_files(tmp_path: Path, file: str, text: str, message: str) -> None:
    (tmp_path / file).write_text(text)
    with pytest.raises(BadInput, match=message):
        load_prompts(str(tmp_path / file))


def test_all_bad_entries_are_told_together(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('null\n"ok"\n3\n""\n')
    with pytest.raises(BadInput) as caught:
        load_prompts(str(tmp_path / "a.jsonl"))
    assert [line.split(":")[1] for line in str(caught.value).splitlines()] == ["1", "3", "4"]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("a cat".encode("utf-16"), "UTF-16; save it as UTF-8"),
        ("a cat".encode("utf-16-be"), "NUL bytes"),
        (b"a\ncaf\xe9", r"line 2 is not UTF-8 text \(byte 0xe9\); save it as UTF-8"),
    ],
)
@pytest.mark.parametrize("suffix", ["txt", "csv", "tsv", "json", "jsonl"])
def test_encodings(tmp_path: Path, raw: bytes, message: str, suffix: str) -> None:
    (tmp_path / f"a.{suffix}").write_bytes(raw)
    with pytest.raises(BadInput, match=message):
        load_prompts(str(tmp_path / f"a.{suffix}"))


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.txt").mkdir()
    os.mkfifo(tmp_path / "fifo.txt")
    (tmp_path / "device.txt").symlink_to("/dev/zero")
    (tmp_path / "loop.txt").symlink_to("loop.txt")
    reasons = {"folder": "a folder", "fifo": "not a regular", "device": "not a regular",
               "loop": "symbolic links", "no\0name": "null"}  # fmt: skip
    for name, reason in reasons.items():
        with pytest.raises(BadInput, match=f"cannot be read as a prompt file: .*{reason}"):
            load_prompts(str(tmp_path / f"{name}.txt"))


@pytest.mark.parametrize("name", ["", "..", "../x", "/etc/hosts", "~nobody/x"])
def test_what_is_neither_a_set_nor_a_file(name: str) -> None:
    with pytest.raises(BadInput, match="neither a prompt file"):
        prompt_identity(name)


def test_columns_and_fields_that_are_not_read_are_known(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt,note\none,two\n")
    (tmp_path / "a.jsonl").write_text('{"prompt": "one", "seed": 3}\n')
    assert load_prompts(str(tmp_path / "a.csv")).unread == ("note",)
    assert load_prompts(str(tmp_path / "a.jsonl")).unread == ("seed",)


def test_a_prompt_of_two_lines_is_not_two_prompts() -> None:
    assert PromptSet("a", ("x", "y"), ("", "")).sha256 != PromptSet("a", ("x\n\ty",), ("",)).sha256


def test_missing_file_is_an_error_even_for_a_plan(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        prompt_identity(str(tmp_path / "none.txt"))


def test_identity_is_of_content_and_order() -> None:
    one = PromptSet("a", ("x", "y"), ("", ""))
    assert one.sha256 == PromptSet("b", ("x", "y"), ("", "")).sha256
    assert one.sha256 != PromptSet("a", ("y", "x"), ("", "")).sha256
    assert one.sha256 != PromptSet("a", ("x", "y"), ("", "c")).sha256


def test_a_set_may_be_cut_to_some_of_its_categories(tmp_path: Path) -> None:
    whole = load_prompts("world-train")
    photos = load_prompts("world-train:photo")
    assert set(photos.categories) == {"photo"}
    assert photos.prompts == tuple(
        p for p, c in zip(whole.prompts, whole.categories, strict=True) if c == "photo"
    )
    both = load_prompts("world-train:photo,painting")
    assert set(both.categories) == {"photo", "painting"}
    with pytest.raises(BadInput, match="no category 'foto'; it has: "):
        load_prompts("world-train:foto")
    path = tmp_path / "p.csv"
    path.write_text("prompt,category\na,x\nb,y\n")
    assert load_prompts(f"{path}:y").prompts == ("b",)
    assert prompt_file(f"{path}:y") == f"{path}:y"
