"""What is said of results is in the files of results: numbers, verdicts, seeds."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "results/reference"
README = (REFERENCE / "README.md").read_text()
POINTER = re.compile(r"\(`([a-z0-9_]+)/`")
NUMBER = re.compile(r"(?<![\w./-])\d*\.\d+(?![\w-])")
PART = re.compile(r"(?<=[.:;]) ")  # what a pointer speaks of begins behind one of these
PAIR = re.compile(r"(-?[\d.]+) against (-?[\d.]+)")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def listed(head: str) -> list[list[str]]:
    """The rows of the README's table that begins with that head."""
    lines = README[README.index(f"| {head} ") :].splitlines()
    ends = next((i for i, line in enumerate(lines) if not line.startswith("|")), len(lines))
    return [cells(line.replace("\\|", "\0")) for line in lines[2:ends]]


def numbers(folder: Path) -> list[float]:
    """Every number in a folder's CSV files."""
    found = []
    for path in sorted(folder.glob("*.csv")):
        with path.open(newline="") as file:
            for text in (text for row in csv.reader(file) for text in row):
                try:
                    found.append(float(text))
                except ValueError:
                    continue
    return found


def shown(value: float, text: str) -> bool:
    """Whether a value is displayed as that text, whatever its sign."""
    digits = len(text.partition(".")[2])
    return abs(abs(value) - abs(float(text))) <= 0.5 * 10**-digits + 1e-9


def cited() -> list[tuple[str, str]]:
    """(folder, number) for every number in the part of a sentence that points at a folder."""
    found = []
    for paragraph in re.split(r"\n\s*\n|\n\* ", README):
        if paragraph.startswith("|"):
            continue
        text = " ".join(paragraph.split())
        for pointer in POINTER.finditer(text):
            part = PART.split(text[: pointer.start()])[-1]
            found += [(pointer[1], number) for number in NUMBER.findall(part)]
    return found


def test_numbers_that_point_at_a_folder_are_in_it() -> None:
    known: dict[str, list[float]] = {}
    pointed = cited()
    assert pointed
    for folder, _ in pointed:
        known.setdefault(folder, numbers(REFERENCE / folder))
    lost = [(f, number) for f, number in pointed if not any(shown(v, number) for v in known[f])]
    assert lost == []


def test_every_folder_is_listed_and_has_what_is_listed() -> None:
    named = [re.findall(r"\(([^)]+)\)", row[0])[0] for row in listed("folder")]
    assert [path for path in named if not (REFERENCE / path).is_file()] == []
    folders = {path.name for path in REFERENCE.iterdir() if path.is_dir()}
    assert folders == {Path(path).parts[0] for path in named}


def test_seeds_are_those_of_the_tables() -> None:
    for row in listed("folder"):
        path = REFERENCE / re.findall(r"\(([^)]+)\)", row[0])[0]
        table = json.loads(path.with_suffix(".json").read_text())
        seeds = {
            run["seed"]
            for line in table["rows"]
            for cell in line["cells"].values() if isinstance(cell, dict)
            for run in cell.get("runs", [])
        }  # fmt: skip
        told = {int(seed) for seed in row[-2].split(",")}
        assert seeds <= told, row[0]


def claims() -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for path in sorted(REFERENCE.glob("*/claims.csv")):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                found.setdefault(row["text"], []).append(row)
    return found


@pytest.mark.parametrize("row", listed("claim"), ids=lambda row: row[0])
def test_verdicts_and_numbers_of_claims_are_those_of_claims_csv(row: list[str]) -> None:
    text, verdict, ours = row[0].replace("\\", ""), row[1].strip("*"), row[2]
    pair = PAIR.fullmatch(ours)
    assert pair
    fits = [
        found for found in claims().get(text, [])
        if found["verdict"] == verdict
        and all(shown(float(found[side]), number)
                for side, number in zip(("a_value", "b_value"), pair.groups(), strict=True))
    ]  # fmt: skip
    assert fits, f"{text}: no claims.csv has {verdict}, {ours}"


def test_what_readme_says_of_the_tiny_scorers_is_on_their_cards() -> None:
    front = (ROOT / "README.md").read_text()
    told = re.search(
        r"score ([\d.]+) in HPS \(tiny\) and ([\d.]+) in AeS.*?is (\.\d+)", front, re.S
    )
    assert told
    weights = ROOT / "distillbench/world/weights"
    cards = {n: (weights / n / "card.json").read_text() for n in ("tiny-sd", "tiny-aes")}
    on_card = {n: [float(x) for x in re.findall(r"\d+\.\d+", text)] for n, text in cards.items()}
    for number, card in zip(told.groups(), ("tiny-sd", "tiny-sd", "tiny-aes"), strict=True):
        assert any(shown(value, number) for value in on_card[card]), number
