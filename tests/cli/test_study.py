"""The study command: what it refuses, and a whole study from a run to its tally."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((), "needs one experiment FILE and --rows A B"),
        (("e.yaml",), "needs one experiment FILE and --rows A B"),
        (("nowhere.yaml", "--rows", "a", "b"), "no such file"),
        (("--tally",), "needs files of answers"),
        (("--tally", "a.json"), "key.json: no such file"),
        (("--serve",), "key.json: no such file"),
    ],
)
def test_what_cannot_be_done_is_one_line(cli: Any, words: tuple[str, ...], text: str) -> None:
    answer = cli("study", *words, fakes=True)
    assert answer.code == 2
    assert text in answer.err
    assert "Traceback" not in answer.err


def test_rows_without_samples_are_named(cli: Any) -> None:
    answer = cli("study", "e.yaml", "--rows", "fake-teacher", "fake-student[nfe=4]", fakes=True)
    assert answer.code == 2
    assert "is not done" in answer.err
    assert not Path("study").exists()


def test_a_tally_is_text_or_json(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from distillbench.report.study.key import Key, PairKey

    pairs = tuple(PairKey(f"p{n}", n, "left") for n in range(20))
    Path("study").mkdir()
    Key("id", "t", "A", "B", ("x", "y"), pairs).write(Path("study/key.json"))
    answers = [{"pair": n, "choice": "left" if n else "tie"} for n in range(20)]
    record = {"study": "id", "rater": "ann", "answers": answers}
    Path("study/answers-ann.json").write_text(json.dumps(record))
    Path("study").rename("blind")  # the key is found among the answers, or beside them
    words = ("study", "--tally", "blind/answers-ann.json", "blind/key.json")
    shown = cli(*words).out.splitlines()
    assert shown[0].startswith("A against B: preferred in 97.5% of 20 pairs (95 % Wilson interval")
    assert shown[1] == "wins 19, ties 1, losses 0"
    assert cli(*words[:3], "--json").json["verdict"] == "A is preferred"
    assert "97.5%" in Path("blind/tally/study.md").read_text()
    assert cli("study", "--tally", *map(str, Path("blind").glob("*.json"))).code == 0
    Path("other").mkdir()
    Key("id2", "t", "A", "B", ("x", "y"), pairs).write(Path("other/key.json"))
    asked = cli(*words[:3], "-o", "other")
    assert asked.code == 2
    assert "answers to another study" in asked.err
    assert "nowhere/key.json: no such file" in cli(*words[:3], "-o", "nowhere").err
