"""Text for LaTeX: escaped, and compilable by any engine whatever the labels contain."""

from __future__ import annotations

import unicodedata

from distillbench.report.table import MISSING, Column, Direction, Entry

__all__ = ["arrow", "cell_tex", "escape", "head_tex"]

# A bracket or star that starts a row would be read as an argument of the line break before it.
_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    '"': "''", "[": "{[}", "*": "{*}",
}  # fmt: skip
# Letters and signs by Unicode name, so that this file stays ASCII.
_GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau "
    "upsilon phi chi psi omega"
)
_SIGNS = {
    "PLUS-MINUS SIGN": r"\pm", "MULTIPLICATION SIGN": r"\times", "RIGHTWARDS ARROW": r"\to",
    "UPWARDS ARROW": r"\uparrow", "DOWNWARDS ARROW": r"\downarrow", "INFINITY": r"\infty",
    "LESS-THAN OR EQUAL TO": r"\leq", "GREATER-THAN OR EQUAL TO": r"\geq",
    "MICRO SIGN": r"\mu", "MINUS SIGN": "-", "SUPERSCRIPT TWO": "^2", "ALMOST EQUAL TO": r"\approx",
}  # fmt: skip
_TEXT = {
    "EN DASH": "--", "EM DASH": "---", "LEFT SINGLE QUOTATION MARK": "`",
    "RIGHT SINGLE QUOTATION MARK": "'", "LEFT DOUBLE QUOTATION MARK": "``",
    "RIGHT DOUBLE QUOTATION MARK": "''", "HORIZONTAL ELLIPSIS": r"\ldots{}",
}  # fmt: skip
# Pairs that fonts draw as one other sign; an empty group between them keeps them as typed.
_LIGATURES = frozenset({"--", "''", "``", ",,", "<<", ">>", "?`", "!`"})
_ARROWS: dict[Direction, str] = {"up": r"$\uparrow$", "down": r"$\downarrow$", "": ""}


def escape(text: str) -> str:
    """Plain text as LaTeX text on one line: all characters as typed, Unicode spelled in commands.

    A character that has no spelling (e.g. Chinese) becomes its code point in brackets, because an
    engine would otherwise stop at it.
    """
    spelled = ""
    for char in " ".join(text.replace("+-", "\u00b1").split()):
        piece = _character(char)
        spelled += "{}" if spelled[-1:] + piece[:1] in _LIGATURES else ""
        spelled += piece
    return " ".join(spelled.split())


def _character(char: str) -> str:
    if char in _SPECIAL:
        return _SPECIAL[char]
    if char.isascii():
        return char if char.isprintable() else " "
    name = unicodedata.name(char, "")
    if name in _TEXT:
        return _TEXT[name]
    sign = _SIGNS.get(name) or _greek(name)
    if sign:
        return f"${sign}$"
    plain = unicodedata.normalize("NFKD", char).encode("ascii", "ignore").decode()
    return "".join(map(_character, plain)) if plain else f"[U+{ord(char):04X}]"


def _greek(name: str) -> str:
    letter = name.removeprefix("GREEK SMALL LETTER ")
    if letter != name and (letter := letter.lower().replace("lamda", "lambda")) in _GREEK.split():
        return f"\\{letter}"
    return ""


def arrow(direction: Direction) -> str:
    """The direction in which a column improves."""
    return _ARROWS[direction]


def head_tex(column: Column) -> str:
    """A column head; under a shared head the arrow stands up there."""
    head = escape(column.label)
    if column.kind == "published":
        return rf"\textcolor{{gray}}{{\small {head}}}"
    return " ".join(filter(None, [head, "" if column.span else arrow(column.direction)]))


def cell_tex(cell: Entry, column: Column) -> str:
    """A cell: best bold, second underlined, its error small behind it, footnote marks raised."""
    text = cell.text if cell.text == MISSING or column.kind == "field" else _number(cell.text)
    if column.kind == "field" and cell.text != MISSING:
        text = escape(text)
    wrap = {1: r"\textbf{%s}", 2: r"\underline{%s}"}.get(cell.rank, "%s")
    text = wrap % text
    if cell.stderr_text:
        text += rf"{{\scriptsize\,$\pm$\,{_number(cell.stderr_text)}}}"
    if cell.marks:
        text += rf"\textsuperscript{{{','.join(cell.marks)}}}"
    return rf"\textcolor{{gray}}{{\small {text}}}" if column.kind == "published" and text else text


def _number(text: str) -> str:
    escaped = text.replace("%", r"\%")
    return f"$-${escaped[1:]}" if escaped.startswith("-") else escaped
