"""Words for which settings of a JSON file are honoured: what a value may be, and what it does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

__all__ = [
    "Rule", "Rules", "either", "flag", "listed", "number", "one_of", "only", "optional", "shown",
    "text", "unread", "violations", "whole",
]  # fmt: skip

SHOWN = 60


@dataclass(frozen=True)
class Rule:
    """What the value of one key may be.

    Attributes:
        fits: whether a value is honoured.
        allowed: the same in words, for the message.
        needed: the key must be there; else the library's default counts, as everywhere.
        why: of a key that changes nothing here: the reason.
    """

    fits: Callable[[Any], bool]
    allowed: str
    needed: bool = False
    why: str = ""

    def must(self) -> Rule:
        """The same rule for a key that must be there."""
        return replace(self, needed=True)


Rules = Mapping[str, Rule]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value


def number(above: float = float("-inf"), below: float = float("inf")) -> Rule:
    """A number strictly between two bounds; without bounds infinity counts too."""
    bounds = [f" above {above:g}"] * (above > float("-inf"))
    bounds += [f" below {below:g}"] * (below < float("inf"))
    lowest, highest = above == float("-inf"), below == float("inf")
    return Rule(
        lambda v: _is_number(v) and (lowest or above < v) and (highest or v < below),
        "a number" + " and".join(bounds),
    )


def whole(least: int = 1, most: int = 10**6) -> Rule:
    """An integer from `least` to `most`: a network of a milliard layers would never be built."""
    return Rule(
        lambda v: isinstance(v, int) and not isinstance(v, bool) and least <= v <= most,
        f"a whole number from {least} to {most}",
    )


# Published files write null for false.
flag = Rule(lambda v: v is None or isinstance(v, bool), "true or false")
text = Rule(lambda v: isinstance(v, str), "a text")


def one_of(*values: str) -> Rule:
    """One of these words."""
    return Rule(lambda v: isinstance(v, str) and v in values, ", ".join(values))


def only(value: Any, instead: str = "") -> Rule:
    """This value alone; `instead` says what to do with another."""
    words = json.dumps(value) + (f"; {instead}" if instead else "")
    return Rule(lambda v: type(v) is type(value) and v == value, f"only {words}")


def optional(rule: Rule) -> Rule:
    """A rule whose key may be null."""
    return replace(
        rule, fits=lambda v: v is None or rule.fits(v), allowed=f"null or {rule.allowed}"
    )


def listed(rule: Rule, length: int | None = None) -> Rule:
    """A list (of `length`) of what a rule allows."""
    return Rule(
        lambda v: isinstance(v, list) and all(map(rule.fits, v))
        and (bool(v) if length is None else len(v) == length),
        f"a list{f' of {length}' if length else ''}, each {rule.allowed}",
    )  # fmt: skip


def either(*rules: Rule) -> Rule:
    """What any of the rules allows."""
    return Rule(
        lambda v: any(rule.fits(v) for rule in rules), " or ".join(r.allowed for r in rules)
    )


def unread(rule: Rule, why: str) -> Rule:
    """A key that changes no number here, for the reason `why`; its type is checked all the same."""
    return replace(rule, why=why)


def violations(file: str, values: Mapping[str, Any], rules: Rules) -> Iterator[str]:
    """One line for each setting that is not honoured: file, key, value, what is allowed.

    A key that no rule names is refused unless it switches something off (null, false, empty):
    what it means is not known here. Names with an underscore are the library's own notes.
    """
    for key, rule in rules.items():
        if key not in values and rule.needed:
            yield f"{file}: {key} is missing; allowed: {rule.allowed}"
        elif key in values and not rule.fits(values[key]):
            yield f"{file}: {key}: {shown(values[key])} is not honoured; allowed: {rule.allowed}"
    for key in values.keys() - rules.keys():
        if not key.startswith("_") and values[key] not in (None, False, "", [], {}):
            yield (
                f"{file}: {key}: {shown(values[key])} is not known here and would be ignored; "
                "remove it if these weights do not need it"
            )


def shown(value: Any) -> str:
    """A value as its file writes it, on one line and not too long."""
    written = json.dumps(value)
    return written if len(written) <= SHOWN else written[:SHOWN] + " ..."
