"""What the answers to a study say: win rates, agreement, and who paid no attention."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from distillbench.analysis.tails import wilson
from distillbench.errors import BadInput
from distillbench.report.study.key import Key

__all__ = ["Answers", "Tally", "read_answers", "tally"]

CHOICES = ("left", "right", "tie")
PASSED = 0.75
"""The share of checks that a rater must get right for the other answers to count."""


@dataclass(frozen=True)
class Answers:
    """One rater's file: pair number -> choice."""

    path: Path
    rater: str
    choices: Mapping[int, str]


@dataclass(frozen=True)
class Tally:
    """The outcome of a study.

    Attributes:
        a, b: the rows compared.
        pairs: pairs judged by at least one rater who counts.
        wins, ties, losses: of A, by the majority of each pair's raters.
        win_rate: (wins + ties / 2) / pairs, with its Wilson interval low..high.
        agreement: share of equal answers over all pairs of raters of one pair; None for one rater.
        raters: who counts. inattentive: who failed the checks and does not.
        verdict: "A is preferred", "B is preferred" or "undecided".
    """

    a: str
    b: str
    pairs: int
    wins: int
    ties: int
    losses: int
    win_rate: float
    low: float
    high: float
    agreement: float | None
    raters: tuple[str, ...]
    inattentive: tuple[str, ...]
    verdict: str

    @property
    def claim(self) -> str:
        """The outcome in a sentence for a paper."""
        agreement = "" if self.agreement is None else f", agreement {self.agreement:.0%}"
        return (
            f"{self.a} against {self.b}: preferred in {self.win_rate:.1%} of {self.pairs} pairs "
            f"(95 % Wilson interval {self.low:.1%} to {self.high:.1%}; {len(self.raters)} "
            f"rater(s){agreement}): {self.verdict}"
        )


def read_answers(key: Key, paths: Sequence[Path]) -> list[Answers]:
    """Read answer files. Raises BadInput with one line for each that is not to be counted."""
    found, problems = [], []
    for path in paths:
        try:
            found.append(_read(key, path))
        except (
            OSError,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            RecursionError,
        ) as error:
            what = str(error) if type(error) is ValueError else "not a file of answers"
            problems.append(f"{path}: {what}")
    for rater, count in Counter(a.rater for a in found).items():
        if count > 1:
            files = ", ".join(str(a.path) for a in found if a.rater == rater)
            problems.append(f"{files}: the same rater {rater!r}")
    if problems:
        raise BadInput("\n".join(problems), hint="Leave these files out, and nothing is lost")
    return found


def _read(key: Key, path: Path) -> Answers:
    raw: Any = json.loads(path.read_text(encoding="utf-8"))
    if raw["study"] != key.study:
        raise ValueError(f"answers to another study ({raw['study']!r}, not {key.study})")
    numbers = [answer["pair"] for answer in raw["answers"]]
    choices = [answer["choice"] for answer in raw["answers"]]
    if any(type(n) is not int or not 0 <= n < len(key.pairs) for n in numbers):
        raise ValueError(f"answers to pairs that are not there (0 to {len(key.pairs) - 1} are)")
    if len(set(numbers)) < len(numbers):
        raise ValueError("answers a pair twice")
    if sorted(numbers) != list(range(len(numbers))):
        missing = min(set(range(len(key.pairs))) - set(numbers))
        raise ValueError(f"answers later pairs and not pair {missing}: the page asks in order")
    if set(choices) - set(CHOICES):
        raise ValueError(f"a choice that is none of {', '.join(CHOICES)}")
    rater = raw["rater"]
    if not isinstance(rater, str) or not rater.strip():
        raise ValueError("no rater")
    return Answers(path, rater.strip(), dict(zip(numbers, choices, strict=True)))


def tally(key: Key, answers: Sequence[Answers]) -> Tally:
    """Count. Raises BadInput when nothing is left to count."""
    good = [one for one in answers if _attentive(key, one)]
    votes: dict[int, list[str]] = {}
    for one in good:
        for number, choice in one.choices.items():
            if not key.pairs[number].check:
                votes.setdefault(number, []).append(_for(key, number, choice))
    if not votes:
        out = ", ".join(one.rater for one in answers if one not in good)
        why = f": raters who failed the checks are left out, {out}" if out else ""
        raise BadInput(f"no answers that count{why}")
    outcomes = Counter(_majority(own) for own in votes.values())
    rate = (outcomes["a"] + outcomes["tie"] / 2) / len(votes)
    low, high = wilson(rate, len(votes))
    verdict = (
        f"{key.a} is preferred" if low > 0.5
        else f"{key.b} is preferred" if high < 0.5 else "undecided"
    )  # fmt: skip
    return Tally(
        key.a, key.b, len(votes), outcomes["a"], outcomes["tie"], outcomes["b"], rate, low, high,
        _agreement(votes.values()), tuple(one.rater for one in good),
        tuple(one.rater for one in answers if one not in good), verdict,
    )  # fmt: skip


def _attentive(key: Key, answers: Answers) -> bool:
    """Whether enough of the checks that were answered were answered rightly."""
    checks = [key.pairs[n].a == choice for n, choice in answers.choices.items()
              if key.pairs[n].check]  # fmt: skip
    return not checks or sum(checks) >= PASSED * len(checks)


def _for(key: Key, number: int, choice: str) -> str:
    """The row that a choice of a side means."""
    return "tie" if choice == "tie" else "a" if choice == key.pairs[number].a else "b"


def _majority(votes: Sequence[str]) -> str:
    """A or B where more raters are for it than for the other, else a tie."""
    difference = votes.count("a") - votes.count("b")
    return "tie" if difference == 0 else "a" if difference > 0 else "b"


def _agreement(votes: Any) -> float | None:
    pairs = [one == other for own in votes for one, other in combinations(own, 2)]
    return sum(pairs) / len(pairs) if pairs else None
