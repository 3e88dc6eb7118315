"""How large an experiment may be. Each limit is checked before what it bounds is built.

Those of reading hold for every file and cannot be changed; those of the grid are defaults, which
the file's `limits:` may raise (`--max-cells N` is `--set limits.cells=N`).
"""

from __future__ import annotations

import math
import re
import unicodedata

from pydantic import BaseModel, ConfigDict, PositiveInt

__all__ = [
    "FILE_BYTES", "MAGNITUDE", "NESTING", "NODES", "TEXT", "Limits",
    "number_problem", "over", "text_problem",
]  # fmt: skip

FILE_BYTES = 256 * 1024
"""Bytes of an experiment file, or of one `--set` value."""
NODES = 50_000
"""Entries of a file once its aliases are written out."""
NESTING = 32
"""Mappings and lists inside one another."""
MAGNITUDE = 2**32 - 1
"""The largest number, of either sign; also what a seed may be."""
TEXT = 10_000
"""Characters of one text."""


class Limits(BaseModel):
    """What the grid may ask for.

    Attributes:
        cells: rows times seeds, before `exclude`.
        samples: `sample.n` of one cell.
        nfe: network evaluations of one sample.
        batch: samples of one network call or micro-batch, and micro-batches of one update.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cells: PositiveInt = 20_000
    samples: PositiveInt = 1_000_000
    nfe: PositiveInt = 1_000
    batch: PositiveInt = 65_536


def over(what: str, value: int, limit: int, fix: str) -> str:
    """The sentence for something that is over its limit."""
    return f"{what} {value:,} is over the limit of {limit:,}; {fix}"


def number_problem(value: float, written: str) -> str:
    """What is wrong with a number of a file, "" for nothing."""
    if not math.isfinite(value):
        return f"{written[:40]} is not a finite number"
    if abs(value) > MAGNITUDE:
        return f"{written[:40]} is beyond the largest number there is, {MAGNITUDE:,}"
    if value == 0 and re.search("[1-9]", re.split("[eE]", written)[0]):
        return f"{written[:40]} is nearer to zero than numbers go"
    return ""


def text_problem(text: str) -> str:
    """What is wrong with a text of a file, "" for nothing.

    Line ends and tabs may stand in it; what moves a terminal's cursor, turns the direction of
    writing or is no character at all may not.
    """
    if len(text) > TEXT:
        return over("a text's length", len(text), TEXT, "shorten it")
    for char in text:
        if char.isprintable() or char in "\n\t":
            continue
        kind = unicodedata.category(char)
        if kind in ("Cc", "Cs", "Zl", "Zp") or unicodedata.bidirectional(char) in _TURNING:
            return f"holds the character U+{ord(char):04X}, which is no text; remove it"
    return ""


_TURNING = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})
