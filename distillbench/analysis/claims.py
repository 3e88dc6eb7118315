"""The language of claims: what a paper says, as a comparison that the numbers can decide.

    claim     = side OP [factor "*"] side "on" METRIC ["at" condition {"," condition}]
    side      = name ["[" condition {"," condition} "]"]
    condition = field "=" value
    OP        = ">" | ">=" | "<" | "<="

A name is a row label or a method name, and is quoted when it holds spaces. Conditions select rows
by field, tag or varied value; those in brackets hold for one side and win over those after `at`.

`A > B` says that A is BETTER than B in the metric's own direction (so `A > B on fid` claims the
lower FID); `>=` says it is at least as good, `<` and `<=` the reverse. With a factor the numbers
themselves are compared: `A <= 0.6 * B on fid` claims that A's FID is at most 0.6 times B's.
Metrics without a direction are always compared as numbers.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

from distillbench.analysis.rows import Row, chosen
from distillbench.experiment.select import matches, refusal

__all__ = ["Claim", "Operator", "Side", "as_side", "parse_claim", "resolve"]

Operator = Literal[">", ">=", "<", "<="]
GRAMMAR = (
    "allowed: `A > B on METRIC [at FIELD=VALUE, ...]`, with >, >=, < or <=, a factor as in "
    "`A <= 0.6 * B`, conditions of one side as in `A[nfe=4]`, and quotes around names with spaces"
)
_WORD = re.compile(r"""[^\s"'<>=*,\[\]]+""")
_TOKEN = re.compile(
    r"""\s*(?:(?P<quoted>"[^"]*"|'[^']*')|(?P<op>>=|<=|>|<)|(?P<sign>[*,=\[\]])"""
    rf"""|(?P<word>{_WORD.pattern}))"""
)


@dataclass(frozen=True)
class Side:
    """One side of a comparison: a row's name and what else selects it."""

    name: str
    where: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """A parsed claim; `factor` is None when better and worse are meant, not numbers."""

    text: str
    left: Side
    operator: Operator
    factor: float | None
    right: Side
    metric: str
    where: dict[str, str] = field(default_factory=dict)


class _Reader:
    """Reads tokens of one claim; every `ValueError` says what is allowed."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, str]] = []
        position, end = 0, len(text.rstrip())
        while position < end:
            match = _TOKEN.match(text, position)
            if match is None:
                raise self.error(f"cannot read {text[position:].strip()!r}")
            kind = str(match.lastgroup)
            token = match[kind]
            self.tokens.append((kind, token[1:-1] if kind == "quoted" else token))
            position = match.end()

    def error(self, what: str) -> ValueError:
        return ValueError(f"claim {self.text!r}: {what}; {GRAMMAR}")

    @property
    def next(self) -> tuple[str, str]:
        return self.tokens[0] if self.tokens else ("end", "the end")

    def take(self, what: str, *kinds: str) -> str:
        kind, token = self.next
        if kind not in kinds:
            raise self.error(f"expected {what}, found {token!r}")
        self.tokens.pop(0)
        return token

    def skip(self, token: str) -> bool:
        """Take an unquoted token if it comes next."""
        kind, found = self.next
        if kind == "quoted" or found != token:
            return False
        self.tokens.pop(0)
        return True

    def side(self) -> Side:
        name = self.take("a row label or a method name", "word", "quoted")
        if not self.skip("["):
            return Side(name)
        where = self.conditions()
        if not self.skip("]"):
            raise self.error(f"expected ']', found {self.next[1]!r}")
        return Side(name, where)

    def conditions(self) -> dict[str, str]:
        where: dict[str, str] = {}
        while True:
            name = self.take("a field", "word")
            if not self.skip("="):
                raise self.error(f"expected '=' after {name!r}, found {self.next[1]!r}")
            where[name] = self.take(f"a value of {name}", "word", "quoted")
            if not self.skip(","):
                return where

    def factor(self) -> float | None:
        if len(self.tokens) < 2 or self.tokens[1] != ("sign", "*"):
            return None
        token = self.take("a number before '*'", "word")
        self.skip("*")
        try:
            return float(token)
        except ValueError:
            raise self.error(f"{token!r} before '*' is no number") from None


def parse_claim(text: str) -> Claim:
    """Read a claim. Raises ValueError that says what is wrong and what is allowed."""
    reader = _Reader(text)
    left = reader.side()
    operator = reader.take("one of >, >=, <, <=", "op")
    factor = reader.factor()
    right = reader.side()
    if not reader.skip("on"):
        raise reader.error(f"expected 'on METRIC', found {reader.next[1]!r}")
    metric = reader.take("a metric", "word", "quoted")
    where = reader.conditions() if reader.skip("at") else {}
    if reader.tokens:
        raise reader.error(f"does not end after the metric: {reader.next[1]!r}")
    return Claim(text, left, operator, factor, right, metric, where)  # type: ignore[arg-type]


def as_side(text: str, names: Collection[str]) -> str:
    """`text` as a side of a claim: a row's very name is quoted where it is more than a word."""
    for name in sorted(names, key=len, reverse=True):
        rest = text.removeprefix(name)
        if text.startswith(name) and (not rest or rest.startswith("[")):
            if _WORD.fullmatch(name):
                return text
            quote = "'" if '"' in name else '"'
            return f"{quote}{name}{quote}{rest}"
    return text


def resolve(claim: Claim, rows: Sequence[Row]) -> tuple[Row, Row]:
    """The one row each side means. Raises ValueError when a side means none, or several."""
    return _find(claim, claim.left, rows), _find(claim, claim.right, rows)


def _find(claim: Claim, side: Side, rows: Sequence[Row]) -> Row:
    where = {**claim.where, **side.where}
    fields = [row.fields for row in rows]
    for name, value in where.items():
        if what := refusal(fields, name, value):
            raise ValueError(f"claim {claim.text!r}: {what}")
    candidates = chosen(rows, {}, where)
    labelled = [row for row in candidates if row.name == side.name]
    by_method = [row for row in candidates if side.name in (row.first.method, row.first.title)]
    for called in (labelled, by_method):
        found = [row for row in called if matches(row.fields, where.items())]
        if len(found) == 1:
            return found[0]
        if called:
            raise ValueError(f"claim {claim.text!r}: {_why(side, called, found)}")
    snapshots = [r for r in rows if side.name in (r.name, r.first.method, r.first.title)]
    if snapshots:
        example = f"{side.name}[updates={snapshots[-1].first.updates}]"
        what = f"no final checkpoint for row {side.name!r}; name a snapshot, e.g. {example}"
        raise ValueError(f"claim {claim.text!r}: {what}")
    known = ", ".join(dict.fromkeys(row.name for row in rows))
    raise ValueError(f"claim {claim.text!r}: no row is called {side.name!r}; there are: {known}")


def _why(side: Side, called: Sequence[Row], found: Sequence[Row]) -> str:
    shown = "; ".join(_describe(row) for row in (found or called))
    if found:
        return (
            f"{side.name!r} means {len(found)} rows ({shown}); narrow it, e.g. {side.name}[nfe=4]"
        )
    return f"no row {side.name!r} meets the conditions; there are: {shown}"


def _describe(row: Row) -> str:
    tags = [f"{name}={value}" for name, value in {**row.first.tags, **row.first.varied}.items()]
    snapshot = [] if row.first.final else [f"updates={row.first.updates}"]
    return " ".join(
        [row.name, f"nfe={row.first.nfe}", f"backbone={row.first.backbone}", *snapshot, *tags]
    )
