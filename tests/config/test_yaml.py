"""YAML 1.2 scalars, marks, and everything a parser can find wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distillbench.errors import BadInput
from distillbench.files.marks import MapNode, Mark, Problems
from distillbench.files.yaml import read_value, read_yaml, scalar

Write = Callable[[str], Path]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4), ("1E5", 1e5), ("-.5", -0.5), ("3.", 3.0), ("12", 12), ("-7", -7),
        ("0x1F", 31), ("0o17", 15), ("017", 17), ("true", True), ("False", False), ("null", None),
        ("~", None), ("", None), ("yes", "yes"), ("on", "on"), ("1_000", "1_000"),
        ("12:30", "12:30"), ("1e", "1e"), (".", "."), ("dpmsolver++", "dpmsolver++"),
    ],
)  # fmt: skip
def test_scalars_follow_the_core_schema(text: str, value: Any) -> None:
    result = scalar(text)
    assert result == value
    assert type(result) is type(value)


def test_quoted_scalars_stay_text(write: Write) -> None:
    tree = read_yaml(write("a: '4'\nb: \"true\"\nc: |\n  12\n"), Problems())
    assert tree == {"a": "4", "b": "true", "c": "12\n"}


def test_marks_point_at_keys_and_entries(write: Write) -> None:
    tree = read_yaml(write("name: x\nrows:\n  - {label: A, nfe: [4, 2]}\n"), Problems())
    row = tree["rows"][0]
    assert tree.marks["rows"] == Mark("e.yaml", 2, 1, "rows")
    assert row.mark == Mark("e.yaml", 3, 5, "rows[0]")
    assert row.marks["nfe"] == Mark("e.yaml", 3, 16, "rows[0].nfe")
    assert row["nfe"].marks[1] == Mark("e.yaml", 3, 25, "rows[0].nfe[1]")


def test_duplicate_keys_are_all_told(write: Write) -> None:
    problems = Problems()
    read_yaml(write("a: 1\nb:\n  c: 1\n  c: 2\na: 3\n"), problems)
    assert problems.lines == [
        "e.yaml:4:3: b.c: duplicate key; first given on line 3",
        "e.yaml:5:1: a: duplicate key; first given on line 1",
    ]


def test_aliases_work_and_may_not_contain_themselves(write: Write) -> None:
    assert read_yaml(write("a: &x {k: 1}\nb: *x\n"), Problems())["b"] == {"k": 1}
    problems = Problems()
    read_yaml(write("a: &x [1, *x]\n"), problems)
    assert problems.lines == ["e.yaml:1:11: a[1]: an alias may not contain itself"]


def test_tags_and_infinite_numbers_are_refused(write: Write) -> None:
    problems = Problems()
    read_yaml(write("a: !!python/name:os.system x\nb: .nan\n? [1]\n: 2\n"), problems)
    assert [line.split(": ", 1)[1][:40] for line in problems.lines] == [
        "a: tags such as tag:yaml.org,2002:python",
        "b: .nan is not a finite number",
        "a key must be plain text",
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: [1, 2\n", "e.yaml:2:1: not valid YAML: expected ',' or ']', but got '<stream end>'"),
        ("a: b: c\n", "e.yaml:1:5: not valid YAML: mapping values are not allowed here"),
        ("- 1\n", "e.yaml:1:1: an experiment is a mapping of keys such as name and rows"),
        ("", "e.yaml:1:1: an experiment is a mapping of keys such as name and rows"),
    ],
)
def test_what_is_no_experiment_at_all(write: Write, text: str, line: str) -> None:
    with pytest.raises(BadInput) as caught:
        read_yaml(write(text), Problems())
    assert str(caught.value) == line


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none\.yaml: cannot be read: No such file"):
        read_yaml(tmp_path / "none.yaml", Problems())
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match=r"x\.yaml: cannot be read: not UTF-8 text"):
        read_yaml(tmp_path / "x.yaml", Problems())


def test_values_of_options_are_marked_as_such() -> None:
    mark = Mark("--set base.params={eta: 1}", path="base.params")
    value = read_value("{eta: 1}", mark)
    assert isinstance(value, MapNode)
    assert value.marks["eta"].prefix == "--set base.params={eta: 1}: base.params.eta: "
    assert read_value("1e-3", mark) == 1e-3
    assert read_value("", mark) is None


# ---- merge keys -------------------------------------------------------------------------------


def test_merge_keys_bring_what_a_mapping_does_not_say(write: Write) -> None:
    text = "a: &a {k: 1, m: 2}\nb: &b {k: 3, n: 4}\nc: {<<: [*a, *b], m: 5}\nd:\n  <<: *a\n"
    problems = Problems()
    tree = read_yaml(write(text), problems)
    assert not problems.lines
    assert tree["c"] == {"k": 1, "m": 5, "n": 4}
    assert tree["d"] == {"k": 1, "m": 2}
    assert tree["c"].marks["k"] == Mark("e.yaml", 1, 8, "c.k")
    assert tree["c"].marks["m"] == Mark("e.yaml", 3, 19, "c.m")


def test_a_merged_mapping_may_merge_another(write: Write) -> None:
    tree = read_yaml(write("a: &a {k: 1}\nb: &b {<<: *a, m: 2}\nc: {<<: *b}\n"), Problems())
    assert tree["c"] == {"k": 1, "m": 2}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: &a [1]\nb: {<<: *a}\n", "e.yaml:2:5: b.<<: a merge key takes a mapping"),
        ("b: {<<: 3}\n", "e.yaml:1:5: b.<<: a merge key takes a mapping"),
        ("a: &a {k: 1}\nb: {<<: *a, <<: *a}\n", "e.yaml:2:13: b.<<: duplicate key; first given"),
        ("a: &a {k: 1}\nb: {<<: *a, m: 1, m: 2}\n", "e.yaml:2:19: b.m: duplicate key"),
        ("a: &a {k: 1, k: 2}\nb: {<<: *a}\n", "e.yaml:1:14: a.k: duplicate key"),
        ("b: &b {<<: *b}\n", "e.yaml:1:12: b: an alias may not contain itself"),
    ],
)
def test_merge_keys_that_make_no_sense(write: Write, text: str, line: str) -> None:
    problems = Problems()
    read_yaml(write(text), problems)
    assert problems.lines[0].startswith(line)


def test_a_quoted_merge_key_is_a_key(write: Write) -> None:
    assert read_yaml(write("a: {'<<': 1}\n"), Problems())["a"] == {"<<": 1}


# ---- tags, numbers, characters ----------------------------------------------------------------


@pytest.mark.parametrize("value", ["!!str 1", "!!int '1'", "! 1", "!x [1]", "!!map {}", "!!set {}"])
def test_every_tag_is_refused(write: Write, value: str) -> None:
    problems = Problems()
    read_yaml(write(f"a: {value}\n"), problems)
    assert problems.lines[0].startswith("e.yaml:1:4: a: tags such as ")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("1e12", "1e12 is beyond the largest number there is"),
        ("-99999999999", "-99999999999 is beyond"),
        ("0xFFFFFFFFFF", "0xFFFFFFFFFF is beyond"),
        ("1e999", "1e999 is not a finite number"),
        ("1e-999", "1e-999 is nearer to zero than numbers go"),
        ("9" * 5000, "9" * 40 + " is not a finite number"),
        ("'" + "x" * 10_001 + "'", "a text's length 10,001 is over the limit of 10,000"),
        ('"a\\u001b[2J"', "holds the character U+001B"),
        ('"\\ud800"', "holds the character U+D800"),
        ('"a\\u202eb"', "holds the character U+202E"),
        ('"a\\u2028b"', "holds the character U+2028"),
    ],
)
def test_values_that_are_none(write: Write, text: str, what: str) -> None:
    problems = Problems()
    read_yaml(write(f"a: {text}\n"), problems)
    (line,) = problems.lines
    assert line.startswith(f"e.yaml:1:4: a: {what}")


def test_a_key_is_one_line_of_text(write: Write) -> None:
    problems = Problems()
    read_yaml(write('"a\\nb": 1\n"c\\e": 2\n'), problems)
    assert [line.split(": ")[0] for line in problems.lines] == ["e.yaml:1:1", "e.yaml:2:1"]


# ---- bounds -----------------------------------------------------------------------------------


def _bomb(depth: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, depth)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (_bomb(9), "e.yaml:5:"),
        ("a: " + "[" * 5000, "e.yaml:1:35: a[0]"),
        ("a: " + "{k: " * 5000, "e.yaml:1:128: a.k.k"),
        ("".join(f"{' ' * i}k:\n" for i in range(400)), "e.yaml:33:33: k.k"),
        (
            "a: [" + "x," * 60_000 + "]\n",
            "e.yaml:1:99999: a[49997]: entries of the file: 50,001 is over",
        ),
        ("x" * 300_000, "e.yaml:1:1: bytes of the file: 300,000 is over the limit of 262,144"),
        ("a: *b\n", "e.yaml:1:4: a: not valid YAML: found undefined alias 'b'"),
        ("a: 1\n---\nb: 1\n", "e.yaml:2:1: a second document begins here"),
    ],
)
def test_what_would_eat_memory_is_refused_as_it_is_read(
    write: Write, text: str, line: str
) -> None:  # fmt: skip
    with pytest.raises(BadInput) as caught:
        read_yaml(write(text), Problems())
    assert str(caught.value).startswith(line)


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    for path in (tmp_path / "pipe.yaml", Path("/dev/zero"), tmp_path):
        with pytest.raises(BadInput, match="not a regular file"):
            read_yaml(path, Problems())
