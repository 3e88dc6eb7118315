"""One rule for names, and text that is a label."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Errors = Callable[..., list[str]]

ROWS = "rows: [{method: fake-student}]\nmetrics: [fake-spread]\n"
BAD = [
    "../../README", "a/b", "a\\b", ".hidden", "-rf", "", "a b", "x" * 65, "\u00e9", "a\nb",
    "CON", "nul.txt", "com1", "a.", "$HOME", "a:b",
]  # fmt: skip
PLACES = {
    "name": "name: {}\n",
    "tables[0].name": "tables: [{{name: {}, columns: [fake-spread]}}]\n",
    "figures[0].name": "figures: [{{name: {}}}]\n",
    "metrics[0].id": "metrics: [{{use: fake-spread, id: {}}}]\n",
}


def quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace("\n", "\\n") + '"'


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", BAD)
def test_a_name_that_may_become_a_file_is_plain(errors_of: Errors, place: str, name: str) -> None:
    if (place, name) == ("metrics[0].id", ""):
        return  # no id is the metric's own name
    head = "backbones: {b: {use: fake-points}}\nbase: {backbone: b}\n"
    head += "" if place == "name" else "name: t\n"
    rows = ROWS if not place.startswith("metrics") else ROWS.splitlines()[0] + "\n"
    lines = errors_of(rows + PLACES[place].format(quoted(name)), head=head)
    assert any(f" {place}: " in line and " cannot name " in line for line in lines)


@pytest.mark.parametrize("name", ["cost", "claims", "PLAN", "report", "log", "store", "x.body"])
def test_a_table_is_not_called_as_our_own_files(errors_of: Errors, name: str) -> None:
    (line,) = errors_of(ROWS + f"tables: [{{name: {name}, columns: [fake-spread]}}]\n")
    assert line.startswith("e.yaml:6:11: tables[0].name: ")
    assert "our own" in line


@pytest.mark.parametrize("name", ["store", "Store", "figures", "README.md"])
def test_an_experiment_is_not_called_as_our_own_folders(errors_of: Errors, name: str) -> None:
    assert " cannot name an experiment" in errors_of(f"name: {name}\n", head="")[0]


@pytest.mark.parametrize("name", ["label", "nfe", "hps_n", "hps_stderr", "x_paper"])
def test_a_metric_is_not_called_as_a_column(errors_of: Errors, name: str) -> None:
    text = f"rows: [{{method: fake-student}}]\nmetrics: [{{use: fake-spread, id: {name}}}]\n"
    assert any(" cannot name a metric" in line for line in errors_of(text))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("tables: [{name: t}, {name: T}]\n", "tables 't' and 'T' differ by case alone"),
        ("figures: [{name: t}, {name: T}]\n", "figures 't' and 'T' differ by case alone"),
        ("profiles: {tiny: {}, TINY: {}}\n", "profiles 'tiny' and 'TINY' differ by case alone"),
        ("profiles: {../x: {}}\n", "'../x' cannot name a profile"),
    ],
)
def test_names_of_one_folder_differ_by_more_than_case(
    errors_of: Errors, text: str, what: str
) -> None:
    assert any(what in line for line in errors_of(ROWS + text))


@pytest.mark.parametrize(
    "row",
    [
        'label: "a\\nb"',
        'group: "a\\tb"',
        'tags: {x: "a\\nb"}',
        'init: "a\\nb"',
        "label: " + "x" * 201,
    ],
)
def test_a_label_is_one_line_of_any_text(errors_of: Errors, row: str) -> None:
    lines = errors_of(f"rows: [{{method: fake-student, {row}}}]\nmetrics: [fake-spread]\n")
    assert any("one line of text" in line or "a label's length" in line for line in lines)
