"""Signs of published comparisons and rankings, against cases counted by hand."""

from __future__ import annotations

import csv
import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distillbench.analysis.agreement import agreements, comparisons, in_all, tau_b
from distillbench.analysis.tails import wilson
from distillbench.analysis.written import WrittenTable, find_tables
from distillbench.errors import ArtifactError, BadInput
from distillbench.report.agreement import look, write_agreement

REFERENCE = Path(__file__).resolve().parents[2] / "results/reference"


def number(value: float | None, stderr: float | None = 0.1, **more: Any) -> dict[str, Any]:
    return {"value": value, "text": "", "stderr": stderr, **more}


def row(label: str, ours: Any, published: float | None, group: str = "") -> dict[str, Any]:
    cell = ours if isinstance(ours, dict) else number(ours)
    paper = {"value": published, "text": "", "footnotes": []}
    return {"group": group, "cells": {"label": label, "nfe": 4, "hps": cell, "hps_paper": paper}}


def plain(*rows: dict[str, Any], name: str = "t", label: str = "HPS (tiny)") -> dict[str, Any]:
    kinds = {"label": "field", "nfe": "field", "hps": "number", "hps_paper": "published"}
    columns = [{"key": k, "kind": kind, "label": label, "span": ""} for k, kind in kinds.items()]
    return {"name": name, "columns": columns, "rows": list(rows)}


def table(*rows: dict[str, Any], **more: str) -> WrittenTable:
    return WrittenTable.of(plain(*rows, **more), Path("t.json"))


def counts(line: Any) -> tuple[int, int, int, int]:
    return line.agree, line.differ, line.undecided, line.tied


def test_pairs_of_three_rows_counted_by_hand() -> None:
    """a > b agrees, a > c is within 1.96 sqrt(2) 0.1 = 0.277, b > c differs."""
    made = table(row("a", 3.0, 30.0), row("b", 2.0, 20.0), row("c", 2.8, 10.0))
    found = {(c.a, c.b): c for c in comparisons(made)}
    outcomes = {pair: c.outcome for pair, c in found.items()}
    assert outcomes == {
        ("a[nfe=4]", "b[nfe=4]"): "agrees",
        ("a[nfe=4]", "c[nfe=4]"): "undecided",
        ("b[nfe=4]", "c[nfe=4]"): "differs",
    }
    (line,) = agreements(made)
    assert (line.rows, counts(line)) == (3, (1, 1, 1, 0))
    assert (line.share, line.signs) == (0.5, pytest.approx(2 / 3))
    assert (line.low, line.high) == wilson(0.5, 2)
    assert line.tau == pytest.approx(1 / 3)  # two pairs concordant, one discordant


@pytest.mark.parametrize(
    ("a", "b", "outcome"),
    [
        (number(1.0, 0.3), number(2.0, 0.4), "agrees"),  # 1 > 1.96 x 0.5 = 0.98
        (number(1.0, 0.3), number(1.97, 0.4), "undecided"),
        (number(2.0, 0.3), number(1.0, 0.4), "differs"),
        (number(1.0, None), number(9.0, 0.1), "undecided"),
        (number(1.0, 0.0), number(1.0, 0.0), "undecided"),
        (number(1.0, 0.0), number(1.1, 0.0), "agrees"),
    ],
)
def test_a_pair_is_decided_by_its_errors(a: Any, b: Any, outcome: str) -> None:
    (found,) = comparisons(table(row("a", a, 1.0), row("b", b, 2.0)))
    assert found.outcome == outcome


@pytest.mark.parametrize(
    "rows",
    [
        [row("a", 1.0, 5.0), row("b", 2.0, None)],  # one has no published number
        [row("a", 1.0, 5.0), row("b", number(None, None), 6.0)],  # one is not finished
        [row("a", 1.0, 5.0), row("b", number(2.0, partial=True), 6.0)],  # a part of its seeds
        [row("a", 1.0, 5.0, "SD"), row("b", 2.0, 6.0, "SDXL")],  # never ranked together
        [row("a", number(1.0, against="x"), 5.0), row("b", number(2.0, against="y"), 6.0)],
    ],
)
def test_what_is_no_comparison(rows: list[dict[str, Any]]) -> None:
    assert comparisons(table(*rows)) == []


def test_the_same_published_number_twice_is_counted_apart() -> None:
    made = table(row("a", 1.0, 5.0), row("b", 2.0, 5.0), row("c", 3.0, 6.0))
    (line,) = agreements(made)
    assert counts(line) == (2, 0, 0, 1)
    assert line.tau == pytest.approx(2 / math.sqrt(3 * 2))


@pytest.mark.parametrize(
    ("a", "b", "tau"),
    [
        ([1, 2, 3], [10, 20, 30], 1.0),
        ([1, 2, 3], [3, 2, 1], -1.0),
        ([1, 2, 3, 4], [1, 3, 2, 4], 2 / 3),
        ([12, 2, 1, 12, 2], [1, 4, 7, 1, 0], -0.47140452079103173),  # scipy's own example
        ([1, 1], [1, 2], None),
        ([1], [1], None),
        ([], [], None),
    ],
)
def test_tau_b_of_known_cases(a: list[float], b: list[float], tau: float | None) -> None:
    assert tau_b(a, b) == (tau if tau is None else pytest.approx(tau))


def test_tau_b_is_the_correlation_of_the_signs_of_all_pairs() -> None:
    """Another formula for it, on values with ties; and scipy's, where it is installed."""
    rng = random.Random(0)
    for size in range(3, 24):
        a, b = ([float(rng.randint(0, size)) for _ in range(size)] for _ in range(2))
        first, second = (np.sign(np.subtract.outer(v, v)).ravel() for v in (a, b))
        expected = float(first @ second / np.sqrt((first @ first) * (second @ second)))
        assert tau_b(a, b) == pytest.approx(expected)
        try:
            from scipy.stats import kendalltau  # type: ignore[import-not-found, unused-ignore]
        except ImportError:
            continue
        assert tau_b(a, b) == pytest.approx(kendalltau(a, b).statistic)


def test_categories_are_left_out_of_the_whole() -> None:
    made = plain(row("a", 1.0, 5.0), row("b", 2.0, 6.0))
    for key, kind in (("hps_photo", "number"), ("hps_photo_paper", "published")):
        made["columns"].append({"key": key, "kind": kind, "label": "Photo", "span": "HPS (tiny)"})
    for line, value in zip(made["rows"], (2.0, 1.0), strict=True):
        line["cells"] |= {"hps_photo": number(value), "hps_photo_paper": number(value * -1)}
    *metrics, whole = in_all([WrittenTable.of(made, Path("t.json"))])
    assert [(m.metric, counts(m)) for m in metrics] == [
        ("hps", (1, 0, 0, 0)), ("hps_photo", (0, 1, 0, 0)),
    ]  # fmt: skip
    assert counts(whole) == (1, 0, 0, 0)


def test_metrics_of_other_networks_are_summed_apart() -> None:
    rows = (row("a", 1.0, 5.0), row("b", 2.0, 6.0))
    tables = [table(*rows), table(*rows), table(*rows, label="HPSv2.1")]
    *metrics, whole = in_all(tables)
    assert [(m.label, m.agree) for m in metrics] == [("HPS (tiny)", 2), ("HPSv2.1", 1)]
    assert whole.agree == 3


def save(folder: Path, value: Any, name: str = "t.json") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(value))


def test_tables_are_found_in_a_folder_and_in_those_of_its_experiments(tmp_path: Path) -> None:
    save(tmp_path / "one", plain(row("a", 1.0, 5.0)))
    save(tmp_path / "one", {"cells": []}, "plan.json")
    save(tmp_path / "one", {"summary": ""}, "agreement.json")
    save(tmp_path / "store" / "train" / "key", plain(), "spec.json")
    names = [str(path.relative_to(tmp_path)) for path, _ in find_tables([tmp_path])]
    assert names == ["one/t.json"]
    assert len(find_tables([tmp_path, tmp_path / "one", tmp_path / "one" / ".."])) == 1


def test_folders_without_tables_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for name, what in (("none", "no such folder"), ("file", "not a folder"), ("empty", "no table")):
        with pytest.raises(BadInput, match=what):
            find_tables([tmp_path / name])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"columns": 3}, "columns: input should be a valid list, got 3"),
        ({"rows": [{"group": ""}]}, "rows.cells: missing"),
        ({"rows": [{"cells": {"hps": {"value": "x"}}}]}, "value: input should be a valid number"),
        ({"rows": [{"cells": {"hps": {"value": math.nan}}}]}, "value: input should be a finite"),
        ({"rows": [{"cells": {"hps": [1]}}]}, "hps"),
    ],
)
def test_a_damaged_table_is_one_line(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    save(tmp_path, plain() | change)
    with pytest.raises(ArtifactError) as caught:
        find_tables([tmp_path])
    line = caught.value.line
    assert line.startswith(f"{tmp_path / 't.json'}: ")
    assert told in line
    assert line.endswith("distillbench table FILE")
    assert "\n" not in line


def test_all_formats_hold_the_same(tmp_path: Path) -> None:
    save(tmp_path / "in", plain(row("a|b", 1.0, 5.0), row("c", 2.0, 6.0)))
    found = look([tmp_path / "in"])
    write_agreement(found, tmp_path / "out")
    again = write_agreement(found, tmp_path / "again")
    for path in again:
        assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes()
    raw = json.loads((tmp_path / "out/agreement.json").read_text())
    assert raw["all"]["agree"] == 1
    assert raw["comparisons"][0]["a"] == "a|b[nfe=4]"
    with (tmp_path / "out/agreement.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["agree"] for line in lines] == ["1", "1", "1"]
    assert "100% (21% to 100%)" in (tmp_path / "out/agreement.md").read_text()


def test_no_published_numbers_are_said_to_be_none(tmp_path: Path) -> None:
    save(tmp_path, plain(row("a", 1.0, None)))
    assert "has two rows with published numbers" in look([tmp_path]).summary


def test_the_reference_tables_are_read_whole() -> None:
    found = look([REFERENCE])
    lines = [line for line in found.metrics if line.metric.count("_") == 0]
    for outcome in ("agree", "differ", "undecided", "tied"):
        assert getattr(found.all, outcome) == sum(getattr(line, outcome) for line in lines)
    assert len(found.comparisons) >= found.all.agree + found.all.differ + found.all.undecided > 100
    for line in found.tables:
        assert line.rows is not None
        pairs = line.rows * (line.rows - 1) // 2
        assert line.agree + line.differ + line.undecided + line.tied <= pairs


HERE = "coverage"  # a metric without weights, which is here as it is


def measured(name: str, version: int, revision: str = "", metric: str = "hps") -> dict[str, Any]:
    made = plain(row("a", 1.0, 5.0), row("b", 2.0, 6.0), row("c", 3.0, 7.0), name=name)
    protocol = {"metric": metric, "version": version, "revision": revision, "n": 8}
    return made | {"protocols": {"hps": protocol}}


def test_tables_of_another_worlds_scorers_are_left_out_and_named(tmp_path: Path) -> None:
    """Two of one scorer count; one of other weights, one of another version, one without record."""
    save(tmp_path / "a", measured("first", 1, "ab" * 32))
    save(tmp_path / "b", measured("second", 1, "ab" * 32))
    save(tmp_path / "c", measured("older", 1, "cd" * 32))
    save(tmp_path / "d", measured("version", 2, "ab" * 32))
    save(tmp_path / "e", plain(row("a", 1.0, 5.0), row("b", 2.0, 6.0), name="bare"))
    found = look([tmp_path])
    assert counts(found.all) == (6, 0, 0, 0)
    assert found.counted == 2
    assert "6 published comparisons (2 tables" in found.summary
    assert {line.table for line in found.tables} == {"first", "second", "older", "version", "bare"}
    told = {note.split(", measured")[0].rpartition(" ")[2]: note for note in found.notes}
    assert (
        "version 1, weights cdcdcdcd; the sums are of version 1, weights abababab" in told["older"]
    )
    assert "version 2, weights abababab" in told["version"]
    assert "not on record" in told["bare"]
    text = (write_agreement(found, tmp_path / "out")[2]).read_text()
    assert "left out of the sums are older" in text


def test_the_scorer_that_is_here_counts_though_most_tables_have_another(tmp_path: Path) -> None:
    from distillbench.api.registry import build_metric

    own = build_metric(HERE, {})
    for number in range(3):
        save(tmp_path / f"old{number}", measured(f"old{number}", 0, "ab" * 8, HERE))
    save(tmp_path / "new", measured("new", own.version, own.revision(), HERE))
    found = look([tmp_path])
    assert counts(found.all) == (3, 0, 0, 0)
    assert found.counted == 1
    (note,) = found.notes
    assert "old0, old1, old2" in note


def test_tables_of_an_older_world_alone_say_that_their_scorer_is_not_here(tmp_path: Path) -> None:
    save(tmp_path, measured("old", 0, "ab" * 8, HERE))
    found = look([tmp_path])
    assert counts(found.all) == (3, 0, 0, 0)
    (note,) = found.notes
    assert "measured by version 0, weights abababab; the one here is version 1" in note


def test_hostile_tables_are_counted_as_what_they_are(tmp_path: Path) -> None:
    """No published row, a single pair, all tied, all of ours equal."""
    save(tmp_path / "none", plain(row("a", 1.0, None), row("b", 2.0, None), name="none"))
    save(tmp_path / "pair", plain(row("a", 1.0, 5.0), row("b", 2.0, 6.0), name="pair"))
    save(tmp_path / "tied", plain(row("a", 1.0, 5.0), row("b", 2.0, 5.0), name="tied"))
    save(tmp_path / "flat", plain(row("a", 1.0, 5.0), row("b", 1.0, 6.0), name="flat"))
    save(tmp_path / "one", plain(row("a", 1.0, 5.0), name="one"))
    lines = {line.table: line for line in look([tmp_path]).tables}
    assert lines.keys() == {"pair", "tied", "flat", "one"}
    assert {name: counts(line) for name, line in lines.items()} == {
        "pair": (1, 0, 0, 0), "tied": (0, 0, 0, 1), "flat": (0, 0, 1, 0), "one": (0, 0, 0, 0),
    }  # fmt: skip
    assert {name: line.tau for name, line in lines.items()} == {
        "pair": 1.0, "tied": None, "flat": None, "one": None,
    }  # fmt: skip
    assert (lines["pair"].low, lines["pair"].high) == pytest.approx((0.2065, 1.0), abs=1e-4)
    assert lines["flat"].signs == 0.0  # equal values have no sign


def test_wilson_by_hand() -> None:
    """8 of 10, z = 1.959964: centre (0.8 + z2 / 20) / (1 + z2 / 10), half width by Wilson 1927."""
    z2 = 1.959964**2
    centre = (0.8 + z2 / 20) / (1 + z2 / 10)
    half = math.sqrt(z2) / (1 + z2 / 10) * math.sqrt(0.8 * 0.2 / 10 + z2 / 400)
    assert wilson(0.8, 10) == pytest.approx((centre - half, centre + half), abs=1e-6)
    assert wilson(0.8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
