"""Merging and setting keep the place of every entry."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from distillbench.files.marks import (
    Mark,
    Problems,
    did_you_mean,
    locate,
    merge,
    path_text,
    set_path,
)
from distillbench.files.yaml import read_yaml

TEXT = "a: {x: 1, y: [1, 2], z: {k: 0}}\nb: {x: 5, z: {l: 1}}\n"


def test_mappings_merge_lists_replace_and_marks_follow_the_winner(
    write: Callable[[str], Path],
) -> None:
    tree = read_yaml(write(TEXT), Problems())
    merged = merge(tree["a"], tree["b"])
    assert merged == {"x": 5, "y": [1, 2], "z": {"k": 0, "l": 1}}
    assert locate(merged, ("x",))[0].line == 2
    assert locate(merged, ("y", 1))[0] == Mark("e.yaml", 1, 18, "a.y[1]")
    assert locate(merged, ("z", "k"))[0].path == "a.z.k"
    assert locate(merged, ("z", "l"))[0].path == "b.z.l"
    assert merge([1, 2], [3]) == [3]
    assert tree["a"] == {"x": 1, "y": [1, 2], "z": {"k": 0}}


def test_locating_what_is_not_there_gives_the_nearest(write: Callable[[str], Path]) -> None:
    tree = read_yaml(write(TEXT), Problems())
    mark, rest = locate(tree, ("a", "z", "m", "n"))
    assert mark.path == "a.z"
    assert rest == ("m", "n")
    assert locate(tree, ("a", "function-plain", "x"))[0].path == "a.x"


def test_setting_copies_and_makes_what_is_missing(write: Callable[[str], Path]) -> None:
    tree = read_yaml(write(TEXT), Problems())
    mark = Mark("--set", path="p")
    new = set_path(set_path(tree, ("a", "y", 1), 9, mark), ("c", "d"), 1, mark)
    assert new["a"]["y"] == [1, 9]
    assert new["c"] == {"d": 1}
    assert locate(new, ("a", "y", 1))[0] == mark
    assert locate(new, ("a", "y", 0))[0].line == 1
    assert tree["a"]["y"] == [1, 2]
    with pytest.raises(KeyError, match="1 is a value, not a mapping; it has no 'deep'"):
        set_path(tree, ("a", "x", "deep"), 1, mark)
    with pytest.raises(KeyError, match=r"7 is no index of a list with entries 0\.\.1"):
        set_path(tree, ("a", "y", 7), 1, mark)


def test_guesses_and_paths() -> None:
    assert did_you_mean("setps", ["steps", "eta"]) == " Did you mean 'steps'?"
    assert did_you_mean("TDM", ["tdm"]) == " Did you mean 'tdm'?"
    assert did_you_mean("zzz", ["steps"]) == ""
    assert path_text(("rows", 1, "params", "a")) == "rows[1].params.a"
