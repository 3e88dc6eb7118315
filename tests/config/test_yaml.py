"""YAML 1.2 scalars, marks, and everything a parser can find wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distillbench.config.marks import MapNode, Mark, Problems
from distillbench.config.yaml import read_value, read_yaml, scalar
from distillbench.errors import BadInput

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
