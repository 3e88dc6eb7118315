"""Prompt sets by name and from files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from distillbench.errors import BadInput
from distillbench.sample.prompts import PromptSet, load_prompts, prompt_identity
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
    ],
)
def test_bad_files(tmp_path: Path, file: str, text: str, message: str) -> None:
    (tmp_path / file).write_text(text)
    with pytest.raises(BadInput, match=message):
        load_prompts(str(tmp_path / file))


def test_missing_file_is_an_error_even_for_a_plan(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        prompt_identity(str(tmp_path / "none.txt"))


def test_identity_is_of_content_and_order() -> None:
    one = PromptSet("a", ("x", "y"), ("", ""))
    assert one.sha256 == PromptSet("b", ("x", "y"), ("", "")).sha256
    assert one.sha256 != PromptSet("a", ("y", "x"), ("", "")).sha256
    assert one.sha256 != PromptSet("a", ("x", "y"), ("", "c")).sha256
