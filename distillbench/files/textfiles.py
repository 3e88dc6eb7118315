"""Text files of users: read as UTF-8, split at the file's own line ends, parsed as JSON.

Python's `str.splitlines` also splits at form feeds and at U+2028, which captions and prompts hold;
here a line ends at a line feed, with or without a carriage return before it, and nowhere else.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distillbench.errors import BadInput

__all__ = ["JsonObject", "json_of", "lines", "read_text", "shown", "text_problem"]

MOST_BYTES = 256 << 20
MARKS = {
    b"\xef\xbb\xbf": "",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}


class JsonObject(list[tuple[str, Any]]):
    """A JSON object as its (key, value) pairs: a key that comes twice is still to be seen."""

    def once(self) -> dict[str, Any]:
        """The object as a mapping. Raises ValueError when a key comes twice."""
        found = dict(self)
        if len(found) < len(self):
            keys = [key for key, _ in self]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ValueError(f"the key {shown(twice)} comes twice")
        return found


def read_text(path: Path, what: str) -> str:
    """The text of a regular UTF-8 file of at most 256 MiB, without its byte order mark.

    Args:
        what: what the file is taken for, e.g. "a prompt file".

    Raises:
        BadInput: it is no such file; one line that names the place and the encoding to use.
    """

    def refused(reason: str) -> BadInput:
        return BadInput(f"{path}: cannot be read as {what}: {reason}")

    try:
        status = path.stat()  # before opening: a fifo would wait for ever
        if not stat.S_ISREG(status.st_mode):
            raise refused("a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file")
        if status.st_size > MOST_BYTES:
            raise refused(f"over {MOST_BYTES >> 20} MiB; split it")
        raw = path.read_bytes()
    except OSError as error:
        raise refused(error.strerror or str(error)) from None
    except ValueError as error:  # a NUL in the name
        raise refused(str(error)) from None
    encoding = next((name for mark, name in MARKS.items() if raw.startswith(mark)), "")
    if encoding or b"\0" in raw:
        reason = encoding or "it holds NUL bytes, as UTF-16 text does"
        raise refused(f"{reason}; save it as UTF-8")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        reason = f"line {line} is not UTF-8 text (byte 0x{raw[error.start]:02x})"
        raise refused(f"{reason}; save it as UTF-8") from None


def lines(text: str) -> Iterator[tuple[int, str]]:
    """(line number, line) of each line of a file that is not blank."""
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r")
        if line.strip():
            yield number, line


def json_of(text: str) -> Any:
    """A JSON document, its objects as `JsonObject`. Raises ValueError with one line."""
    try:
        return json.loads(text, object_pairs_hook=JsonObject)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} " if "\n" in text.strip() else ""
        raise ValueError(f"no JSON: {error.msg} at {place}column {error.colno}") from None
    except RecursionError:
        raise ValueError("no JSON that can be read: nested too deeply") from None


def text_problem(value: Any) -> str:
    """What keeps a value from being a text, "" when it is one."""
    if not isinstance(value, str):
        return f"is {shown(value)}, not a string"
    if "\0" in value:
        return "holds a NUL character"
    if any("\ud800" <= c <= "\udfff" for c in value):
        return "holds half a character (a lone surrogate)"
    return ""


def shown(value: Any) -> str:
    """A JSON value in a message: its kind, and itself where it is short."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, JsonObject):
        return "an object"
    if isinstance(value, list):
        return "a list"
    text = ascii(value)
    short = text if len(text) <= 40 else f"{text[:36]}..."
    return short if isinstance(value, str) else f"the number {short}"
