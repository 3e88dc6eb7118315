"""Text of others on a terminal: what would steer it is shown, not obeyed."""

from __future__ import annotations

__all__ = ["visible"]


def visible(text: str) -> str:
    """The text with control and formatting characters spelled as escapes, line ends left alone."""
    return "".join(c if c.isprintable() or c == "\n" else _spelled(c) for c in text)


def _spelled(char: str) -> str:
    if char == "\t" or char.isspace():
        return " "
    return char.encode("unicode_escape").decode("ascii")
